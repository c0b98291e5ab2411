package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"syscall"

	"reuseportd/internal/rig"
)

// h2oConf is as h2o.examp1e.net/configure has it: a thread for each CPU; connections that outlast the benchmark; no
// log, as by default; passed-on requests get no headers, as from the others. Without mruby, the constant answer is
// a file.
const h2oConf = `num-threads: 2
max-connections: 16384
http1-request-timeout: 300
user: %[1]s
proxy.timeout.keepalive: 300000
proxy.emit-x-forwarded-headers: OFF
proxy.emit-via-header: OFF
hosts:
  "web":
    listen: {host: %[2]s, port: %[3]s}
    paths:
      /static/: {file.dir: %[6]q}
      /: {file.file: %[7]q}
  "passing":
    listen: {host: %[4]s, port: %[5]s}
    paths:
      /: {proxy.reverse.url: "http://%[8]s/"}
`

// h2o makes one that has site's files below /static/ and passes what comes to its proxied door on to behind.
func h2o(ctx context.Context, dir, site, behind string) (*contender, error) {
	path, err := exec.LookPath("h2o")
	if err != nil {
		return nil, err
	}
	if path, err = filepath.EvalSymlinks(path); err != nil {
		return nil, err
	}
	small, err := rig.FreeAddress()
	if err != nil {
		return nil, err
	}
	proxied, err := rig.FreeAddress()
	if err != nil {
		return nil, err
	}
	me, err := user.Current()
	if err != nil {
		return nil, err
	}
	hello, conf := filepath.Join(dir, "hello.txt"), filepath.Join(dir, "h2o.conf")
	if err := os.WriteFile(hello, []byte("hello\n"), 0o644); err != nil {
		return nil, err
	}
	host, port, _ := strings.Cut(small, ":")
	proxiedHost, proxiedPort, _ := strings.Cut(proxied, ":")
	text := fmt.Sprintf(h2oConf, me.Username, host, port, proxiedHost, proxiedPort, site, hello, behind)
	return &contender{
		Server: &rig.Server{
			Name:    "h2o",
			Version: rig.FirstLine(exec.CommandContext(ctx, path, "-v")),
			Address: small,
			Args:    []string{path, "-c", conf},
			Quit:    syscall.SIGTERM,
			Log:     filepath.Join(dir, "h2o.log"),
		},
		doors: map[door]string{doorSmall: small, doorChurn: small, doorStatic: small, doorProxied: proxied},
	}, os.WriteFile(conf, []byte(text), 0o644)
}
