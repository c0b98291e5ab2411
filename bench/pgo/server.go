package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"reuseportd/internal/rig"
)

const (
	workers  = 2
	fileSize = 4 << 10
	bulkSize = 1 << 20
)

// bench is the server, one more that it passes everything on to, and where they listen.
type bench struct {
	dir            string
	server, behind *rig.Reuseportd
	web            string // HOST:PORT, and so on
	files          string
	proxied        string
	tcp            string
	pipelined      string // path of the Lua script
}

// conf is more than rig's configuration has, which ends within listeners.
const conf = `  - name: files
    address: %[1]s
    http: {routes: [{files: {root: %[4]q}}]}
  - name: proxied
    address: %[2]s
    http: {routes: [{proxy: {upstream: web}}]}
  - name: tcp
    address: %[3]s
    tcp: {upstream: echo}
upstreams:
  - {name: web, servers: [{address: %[5]q}]}
  - {name: echo, servers: [{address: %[6]q}]}
`

// pipeline has wrk send 16 requests before it reads.
const pipeline = `init = function(args)
  local r = {}
  for i = 1, 16 do r[i] = wrk.format() end
  requests = table.concat(r)
end
request = function() return requests end
`

// newBench builds the server and writes all that it needs.
func newBench(ctx context.Context, dir string) (*bench, error) {
	b := &bench{dir: dir, pipelined: filepath.Join(dir, "pipeline.lua")}
	binary := filepath.Join(dir, "built")
	// What is hot must not be what an earlier profile made hot, or hid by inlining it.
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-pgo=off", "-o", binary, "reuseportd/cmd/reuseportd")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build reuseportd: %w\n%s", err, out)
	}
	if err := os.WriteFile(b.pipelined, []byte(pipeline), 0o644); err != nil {
		return nil, err
	}
	root := filepath.Join(dir, "files")
	if err := os.Mkdir(root, 0o755); err != nil {
		return nil, err
	}
	for name, size := range map[string]int{"small": fileSize, "large": bulkSize} {
		if err := os.WriteFile(filepath.Join(root, name), bytes.Repeat([]byte{'.'}, size), 0o644); err != nil {
			return nil, err
		}
	}
	for _, address := range []*string{&b.files, &b.proxied, &b.tcp} {
		var err error
		if *address, err = rig.FreeAddress(); err != nil {
			return nil, err
		}
	}
	return b, b.configure(ctx, binary, root)
}

func (b *bench) configure(ctx context.Context, binary, root string) (err error) {
	for _, s := range []struct {
		name   string
		server **rig.Reuseportd
	}{{"server", &b.server}, {"behind", &b.behind}} {
		dir := filepath.Join(b.dir, s.name)
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
		if *s.server, err = rig.NewReuseportd(ctx, dir, binary); err != nil {
			return err
		}
	}
	if b.behind.EchoAddress, err = rig.FreeAddress(); err != nil {
		return err
	}
	b.behind.Name = "the server behind"
	if err := b.behind.Configure(1, time.Second); err != nil {
		return err
	}
	b.web = b.server.Address
	b.server.Args = append(b.server.Args, "--pprof")
	b.server.Tail = fmt.Sprintf(conf, b.files, b.proxied, b.tcp, root, b.behind.Address, b.behind.EchoAddress)
	return b.server.Configure(workers, time.Second)
}

func (b *bench) start(ctx context.Context) error {
	if err := b.behind.Start(ctx); err != nil {
		return err
	}
	return b.server.Start(ctx)
}

func (b *bench) stop() {
	b.server.Stop()
	b.behind.Stop()
}
