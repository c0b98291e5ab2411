package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"reuseportd/internal/rig"
)

// workers is how many processes each server has.
const workers = 2

// contender is one server that is attacked.
type contender struct {
	*rig.Server
	ours    bool
	address string // of files below /static/, and of a server behind at /form
}

// contenders are nginx, if it is installed, and ours. Both read bodies for a server behind, as applications want
// them.
func contenders(ctx context.Context, dir, binary string) ([]*contender, error) {
	site, err := newSite(dir)
	if err != nil {
		return nil, err
	}
	behind, err := startBehind()
	if err != nil {
		return nil, err
	}
	var all []*contender
	switch c, err := nginx(dir, site, behind); {
	case err == nil:
		all = append(all, c)
	case !errors.Is(err, exec.ErrNotFound):
		return nil, err
	}
	ours, err := reuseportd(ctx, dir, binary, site, behind)
	return append(all, ours), err
}

const reuseportdConf = `  - name: slow
    address: %s
    http:
      routes:
        - {path: /static/, files: {root: %s, cache: 1s}}
        - {path: /form, proxy: {upstream: behind}}
upstreams:
  - {name: behind, servers: [{address: %q}]}
`

func reuseportd(ctx context.Context, dir, binary, site, behind string) (*contender, error) {
	dir = filepath.Join(dir, "reuseportd")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	r, err := rig.NewReuseportd(ctx, dir, binary)
	if err != nil {
		return nil, err
	}
	address, err := rig.FreeAddress()
	if err != nil {
		return nil, err
	}
	r.Tail = fmt.Sprintf(reuseportdConf, address, site, behind)
	return &contender{r.Server, true, address}, r.Configure(workers, time.Second)
}

const nginxConf = `server {
    listen %s reuseport backlog=4096;
    sendfile on;
    location /static/ { alias %s/; }
    location /form { proxy_pass http://%s; proxy_http_version 1.1; proxy_set_header Connection ""; }
  }
`

func nginx(dir, site, behind string) (*contender, error) {
	dir = filepath.Join(dir, "nginx")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	n, err := rig.NewNginx(dir)
	if err != nil {
		return nil, err
	}
	address, err := rig.FreeAddress()
	if err != nil {
		return nil, err
	}
	n.HTTP = fmt.Sprintf(nginxConf, address, site, behind)
	return &contender{n.Server, false, address}, n.Configure(workers)
}

// newSite makes a directory with a small and a large file.
func newSite(dir string) (string, error) {
	if err := os.Chmod(dir, 0o755); err != nil { // workers are another user
		return "", err
	}
	site := filepath.Join(dir, "site")
	if err := os.Mkdir(site, 0o755); err != nil {
		return "", err
	}
	for name, size := range map[string]int{"page": 4 << 10, "large": 1 << 20} {
		data := make([]byte, size)
		_, _ = rand.Read(data)
		if err := os.WriteFile(filepath.Join(site, name), data, 0o644); err != nil {
			return "", err
		}
	}
	return site, nil
}

// startBehind starts a server that reads what it is sent and answers. It ends with this process.
func startBehind() (address string, err error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	go func() {
		_ = http.Serve(ln, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			_, _ = io.WriteString(w, "ok\n")
		}))
	}()
	return ln.Addr().String(), nil
}
