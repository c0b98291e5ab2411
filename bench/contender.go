package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// contender is one server under measurement.
type contender struct {
	name    string
	version string
	address string
	args    []string
	// reload returns the milliseconds to the new generation's serving; nil if
	// the server has no way to tell.
	reload func(context.Context) (float64, error)
	// quit ends the server gracefully.
	quit syscall.Signal

	logPath string
	cmd     *exec.Cmd
	exited  chan struct{}
}

// contenders are ours and those rivals that are installed.
func contenders(ctx context.Context, dir string, o options) ([]*contender, error) {
	ours, err := reuseportd(ctx, dir, o)
	if err != nil {
		return nil, err
	}
	all := []*contender{ours}
	if path, err := exec.LookPath("nginx"); err == nil {
		rival, err := nginx(path, dir)
		if err != nil {
			return nil, err
		}
		all = append(all, rival)
	} else {
		fmt.Fprintln(os.Stderr, "bench: nginx is not here, so there is nothing to compare with: apt-get install nginx-light")
	}
	return all, nil
}

func reuseportd(ctx context.Context, dir string, o options) (*contender, error) {
	binary := o.server
	if binary == "" {
		binary = filepath.Join(dir, "reuseportd")
		out, err := exec.CommandContext(ctx, "go", "build", "-o", binary, "reuseportd/cmd/reuseportd").CombinedOutput()
		if err != nil {
			return nil, fmt.Errorf("build reuseportd: %w\n%s", err, out)
		}
	}
	binary, err := filepath.Abs(binary)
	if err != nil {
		return nil, err
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	run := filepath.Join(dir, "run")
	conf := filepath.Join(dir, "config.yaml")
	if err := os.Mkdir(run, 0o755); err != nil {
		return nil, err
	}
	text := fmt.Sprintf("workers: 2\nwatch: false\nlog: {level: warn, format: text}\nlisteners:\n"+
		"  - name: web\n    address: 127.0.0.1:%d\n    http: {routes: [{respond: {body: \"hello\\n\"}}]}\n", port)
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		return nil, err
	}
	return &contender{
		name:    "reuseportd",
		version: firstLine(exec.CommandContext(ctx, binary, "version")),
		address: fmt.Sprintf("127.0.0.1:%d", port),
		args:    []string{binary, "run", "-c", conf, "--runtime-dir", run},
		reload: func(ctx context.Context) (float64, error) {
			return reloadReceipt(exec.CommandContext(ctx, binary, "reload", "--json", "--runtime-dir", run))
		},
		quit:    syscall.SIGTERM,
		logPath: filepath.Join(dir, "reuseportd.log"),
	}, nil
}

func nginx(path, dir string) (*contender, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	conf := filepath.Join(dir, "nginx.conf")
	text := fmt.Sprintf(`daemon off;
worker_processes 2;
worker_rlimit_nofile 16384;
pid %[1]s/nginx.pid;
error_log %[1]s/nginx.log;
events { worker_connections 8192; }
http {
  access_log off;
  keepalive_requests 100000000;
  keepalive_timeout 300s;
  client_body_temp_path %[1]s/nginx-body; proxy_temp_path %[1]s/nginx-proxy;
  fastcgi_temp_path %[1]s/nginx-fcgi; uwsgi_temp_path %[1]s/nginx-uwsgi; scgi_temp_path %[1]s/nginx-scgi;
  server { listen 127.0.0.1:%[2]d reuseport; location / { return 200 "hello\n"; } }
}
`, dir, port)
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		return nil, err
	}
	return &contender{
		name:    "nginx",
		version: firstLine(exec.Command(path, "-v")),
		address: fmt.Sprintf("127.0.0.1:%d", port),
		args:    []string{path, "-p", dir, "-c", conf},
		quit:    syscall.SIGQUIT,
		logPath: filepath.Join(dir, "nginx.out"),
	}, nil
}

// start returns when the server answers connects.
func (c *contender) start() error {
	log, err := os.Create(c.logPath)
	if err != nil {
		return err
	}
	defer log.Close()
	c.cmd = exec.Command(c.args[0], c.args[1:]...)
	c.cmd.Stdout, c.cmd.Stderr = log, log
	// A group of its own: an interrupt at the terminal is for bench, which ends
	// the servers itself.
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := c.cmd.Start(); err != nil {
		return err
	}
	c.exited = make(chan struct{})
	go func() { _ = c.cmd.Wait(); close(c.exited) }()
	for range 500 {
		if conn, err := net.Dial("tcp", c.address); err == nil {
			return conn.Close()
		}
		select {
		case <-c.exited:
			text, _ := os.ReadFile(c.logPath)
			return fmt.Errorf("it ended: %v\n%s", c.cmd.ProcessState, text)
		case <-time.After(10 * time.Millisecond):
		}
	}
	c.stop()
	return fmt.Errorf("it doesn't listen on %s", c.address)
}

// stop ends the server and all its processes.
func (c *contender) stop() {
	if c.exited == nil {
		return
	}
	pids := tree(c.cmd.Process.Pid)
	_ = c.cmd.Process.Signal(c.quit)
	select {
	case <-c.exited:
	case <-time.After(5 * time.Second):
	}
	// Nothing is left as a rule. What is left was ours when the list was made.
	for _, pid := range pids {
		if exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid)); err == nil && strings.HasPrefix(exe, c.args[0]) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
	<-c.exited
}

// freePort looks below the ephemeral ports, which the load's connects use up.
func freePort() (int, error) {
	for range 200 {
		port := 20000 + int(time.Now().UnixNano()/1000)%10000
		if l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			return port, l.Close()
		}
	}
	return 0, fmt.Errorf("no free port from 20000 to 29999")
}

func firstLine(cmd *exec.Cmd) string {
	out, err := cmd.CombinedOutput()
	if err != nil {
		return err.Error()
	}
	line, _, _ := strings.Cut(string(out), "\n")
	return line
}
