package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"reuseportd/internal/rig"
)

// nginxStream and nginxHTTP are as ngx_stream_proxy_module and "keepalive" of
// ngx_http_upstream_module have it (nginx.org/en/docs). Requests on a connection have no limit,
// as for the others.
const (
	nginxStream = `stream {
  proxy_timeout 1h;
  server { listen %[1]s reuseport; proxy_pass %[4]s; }
  server { listen %[2]s reuseport; proxy_pass %[4]s; proxy_buffer_size 64k; }
  server { listen %[3]s reuseport; proxy_pass %[5]s; }
}
`
	nginxHTTP = `upstream behind { server %[2]s; keepalive 64; keepalive_requests 100000000; }
  server {
    listen %[1]s reuseport;
    location / { proxy_pass http://behind; proxy_http_version 1.1; proxy_set_header Connection ""; }
  }
`
)

func nginx(dir string, b *behind) (*proxy, error) {
	n, err := rig.NewNginx(dir)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(rig.NginxStream); err != nil {
		return nil, exec.ErrNotFound
	}
	a, err := addresses()
	if err != nil {
		return nil, err
	}
	larger, err := rig.FreeAddress()
	if err != nil {
		return nil, err
	}
	n.Head = "load_module " + rig.NginxStream + ";\n"
	n.Tail = fmt.Sprintf(nginxStream, a[0], larger, a[1], b.bulk, b.echo())
	n.HTTP = fmt.Sprintf(nginxHTTP, a[2], b.http)
	return &proxy{
		Server: n.Server, bulk: a[0], tcp: a[1], web: a[2],
		more: []target{{n.Server, "nginx with proxy_buffer_size 64k", larger}},
	}, n.Configure(workers)
}

// haproxyConf is for HAProxy in the foreground. Of the options for splicing, those
// that always splice are cheaper than splice-auto, whose heuristics seldom do.
const haproxyConf = `global
  nbthread %[1]d
%[2]sdefaults
  mode tcp
  timeout connect 5s
  timeout client 1h
  timeout server 1h
listen bulk
  bind %[3]s
  option splice-request
  option splice-response
  server s %[7]s
listen auto
  bind %[4]s
  option splice-auto
  server s %[7]s
listen tcp
  bind %[5]s
  option splice-auto
  server s %[8]s
listen web
  mode http
  bind %[6]s
  http-reuse always
  server s %[9]s
`

func haproxy(dir string, b *behind) (*proxy, error) {
	p, err := haproxyOf(dir, "haproxy", "", b)
	if err != nil {
		return nil, err
	}
	tuned, err := haproxyOf(dir, "haproxy-tuned", "  tune.pipesize 1048576\n", b)
	if err != nil {
		return nil, err
	}
	// A server's processes are known by their binary, so this one has its own.
	binary := filepath.Join(dir, "tuned-haproxy")
	if err := rig.CopyBinary(tuned.Args[0], binary); err != nil {
		return nil, err
	}
	tuned.Args[0] = binary
	p.more = append(p.more, target{tuned.Server, "HAProxy with tune.pipesize 1 MiB", tuned.bulk})
	return p, nil
}

func haproxyOf(dir, name, global string, b *behind) (*proxy, error) {
	s, conf, err := rig.NewHAProxy(dir, name, "-db")
	if err != nil {
		return nil, err
	}
	a, err := addresses()
	if err != nil {
		return nil, err
	}
	s.Address = a[2]
	auto, err := rig.FreeAddress()
	if err != nil {
		return nil, err
	}
	text := fmt.Sprintf(haproxyConf, workers, global, a[0], auto, a[1], a[2], b.bulk, b.echo(), b.http)
	return &proxy{
		Server: s, bulk: a[0], tcp: a[1], web: a[2],
		more: []target{{s, "HAProxy with splice-auto", auto}},
	}, os.WriteFile(conf, []byte(text), 0o644)
}
