package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"reuseportd/internal/rig"
)

// nginxHTTP and nginxStream are as ngx_http_core_module ("sendfile", "open_file_cache"), ngx_http_upstream_module
// ("keepalive") and ngx_stream_proxy_module have it (nginx.org/en/docs). Requests on a connection have no limit, as
// for the others.
const (
	nginxHTTP = `upstream behind { server %[1]s; keepalive 64; keepalive_requests 100000000; }
  server {
    listen %[2]s reuseport backlog=4096;
    location / { proxy_pass http://behind; proxy_http_version 1.1; proxy_set_header Connection ""; }
  }
  server {
    listen %[3]s reuseport backlog=4096;
    %[5]s
    open_file_cache max=1000 inactive=60s;
    open_file_cache_valid 60s;
    location /static/ { alias %[4]s/; }
  }
`
	nginxStream = `stream {
  proxy_timeout 1h;
  %[1]s
  server { listen %[2]s reuseport backlog=4096; proxy_pass %[3]s; }
  server { listen %[4]s reuseport backlog=4096; proxy_pass %[5]s; }
}
`
)

// nginx makes one with its stream module, if that is here, and more directives for it.
func nginx(workers int, stream string) func(context.Context, place) (*contender, error) {
	return nginxOf(workers, stream, "sendfile on; tcp_nopush on;")
}

// nginxOf has a say in how files are sent: what its manual advises for large ones costs small ones two more system
// calls.
func nginxOf(workers int, stream, static string) func(context.Context, place) (*contender, error) {
	return func(_ context.Context, p place) (*contender, error) {
		n, err := rig.NewNginx(p.dir)
		if err != nil {
			return nil, err
		}
		if err := ownBinary(n.Server, p.dir); err != nil {
			return nil, err
		}
		a, err := addresses(5)
		if err != nil {
			return nil, err
		}
		c := &contender{Server: n.Server, doors: map[door]string{
			doorSmall: n.Address, doorChurn: n.Address, doorProxied: a[0], doorStatic: a[1],
		}}
		cert, key := pairOf(p.site)
		if workers > 1 {
			c.doors[doorTLS] = a[4]
		}
		if stream == "" && workers > 1 {
			c.doors[doorFairFile] = a[1]
		}
		n.NoFile = p.nofile
		n.HTTP = fmt.Sprintf(nginxHTTP, p.behind.http, a[0], a[1], p.site, static) + fmt.Sprintf(nginxTLS, a[4], cert, key, p.site)
		if _, err := os.Stat(rig.NginxStream); err == nil {
			c.doors[doorBulk], c.doors[doorTCP] = a[2], a[3]
			n.Head = "load_module " + rig.NginxStream + ";\n"
			n.Tail = fmt.Sprintf(nginxStream, stream, a[2], p.behind.bulk, a[3], p.behind.echo())
		} else if stream != "" {
			return nil, fmt.Errorf("nginx's stream module: %w", exec.ErrNotFound)
		}
		c.reload = hangUp(func() (int, error) { return n.Master("") })
		return c, n.Configure(workers)
	}
}

// ownBinary gives a server a copy of its binary, by which its processes are told from another server's.
func ownBinary(s *rig.Server, dir string) error {
	path := filepath.Join(dir, filepath.Base(s.Args[0]))
	err := rig.CopyBinary(s.Args[0], path)
	s.Args[0] = path
	return err
}
