package rig

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// Nginx is nginx, configured as its manual advises for SO_REUSEPORT.
type Nginx struct {
	*Server
	Head, Tail string // further configuration before and after the rest, whole lines
	HTTP       string // further configuration within its http block
	dir, conf  string
}

// NewNginx finds nginx. The error is that of exec.LookPath if there is none.
func NewNginx(dir string) (*Nginx, error) {
	path, err := exec.LookPath("nginx")
	if err != nil {
		return nil, err
	}
	if path, err = filepath.EvalSymlinks(path); err != nil {
		return nil, err
	}
	port, err := FreePort()
	if err != nil {
		return nil, err
	}
	n := &Nginx{dir: dir, conf: filepath.Join(dir, "nginx.conf")}
	n.Server = &Server{
		Name:    "nginx",
		Version: FirstLine(exec.Command(path, "-v")),
		Address: fmt.Sprintf("127.0.0.1:%d", port),
		Args:    []string{path, "-p", dir, "-c", n.conf},
		Quit:    syscall.SIGTERM,
		Log:     filepath.Join(dir, "nginx.out"),
	}
	return n, nil
}

// Configure writes the configuration, with the backlog that others have by default. worker_connections is more than any load
// has, or NoFile if that is set, since nginx begins to close idle connections at fifteen sixteenths of it. nginx becomes a
// daemon, since otherwise it ignores the signal to replace its binary.
func (n *Nginx) Configure(workers int) error {
	files, connections := uint64(16384), uint64(10240)
	if n.NoFile > 0 {
		files, connections = n.NoFile, n.NoFile
	}
	text := fmt.Sprintf(`%[4]sworker_processes %[3]d;
worker_rlimit_nofile %[7]d;
pid %[1]s/nginx.pid;
error_log %[1]s/nginx.log;
events { worker_connections %[8]d; }
http {
  access_log off;
  keepalive_requests 100000000;
  keepalive_timeout 300s;
  client_body_temp_path %[1]s/nginx-body; proxy_temp_path %[1]s/nginx-proxy;
  fastcgi_temp_path %[1]s/nginx-fcgi; uwsgi_temp_path %[1]s/nginx-uwsgi; scgi_temp_path %[1]s/nginx-scgi;
  server { listen %[2]s reuseport backlog=4096; location / { return 200 "hello\n"; } }
%[6]s}
%[5]s`, n.dir, n.Address, workers, n.Head, n.Tail, n.HTTP, files, connections)
	return os.WriteFile(n.conf, []byte(text), 0o644)
}

// Master reads the PID file; suffix is that of a replaced master's.
func (n *Nginx) Master(suffix string) (int, error) {
	return readPID(filepath.Join(n.dir, "nginx.pid"+suffix))
}

// readPID reads the first line of a PID file.
func readPID(path string) (int, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	line, _, _ := strings.Cut(string(data), "\n")
	return strconv.Atoi(strings.TrimSpace(line))
}
