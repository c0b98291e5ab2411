package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"reuseportd/internal/rig"
)

// haproxyConf is for master-worker mode: listeners go from the old process to
// the new one through the stats socket (management guide, section 4). HAProxy
// has one worker with threads.
const haproxyConf = `global
  nbthread %[2]d
  stats socket %[1]s/haproxy.sock mode 600 level admin expose-fd listeners
defaults
  timeout connect 5s
  timeout client 300s
  timeout server 300s
  timeout tunnel 1h
frontend web
  mode http
  bind %[3]s
  http-request return status 200 content-type text/plain string "hello\n"
listen stream
  mode tcp
  bind %[4]s
  server echo %[5]s
`

func haproxy(dir, echo string) (*contender, error) {
	pidFile, masterSocket := filepath.Join(dir, "haproxy.pid"), filepath.Join(dir, "haproxy-master.sock")
	server, conf, err := rig.NewHAProxy(dir, "haproxy", "-W", "-p", pidFile, "-S", masterSocket)
	if err != nil {
		return nil, err
	}
	stream, err := rig.FreeAddress()
	if err != nil {
		return nil, err
	}
	c := &contender{
		Server: server,
		configure: func(threads int) error {
			text := fmt.Sprintf(haproxyConf, dir, threads, server.Address, stream, echo)
			return os.WriteFile(conf, []byte(text), 0o644)
		},
		master:    func(context.Context) (int, error) { return readPID(pidFile) },
		processes: 1,
		stream:    stream,
	}
	c.isWorker = func(p rig.Process) bool {
		master, err := c.master(context.Background())
		return err == nil && p.PID != master
	}
	c.reload = func(ctx context.Context) error {
		err := c.await(ctx, func() bool { return haproxyReady(masterSocket) })
		if err != nil {
			return fmt.Errorf("wait for the master's readiness: %w", err)
		}
		return c.anew(ctx, func() error { return c.signal(ctx, syscall.SIGUSR2) })
	}
	c.upgrade, c.upgradeNote = c.reload, "a reload: the master executes its binary anew"
	return c, nil
}

// haproxyReady asks the master on its own socket. After loading a configuration
// it executes itself once more; a signal that comes just then is forgotten.
func haproxyReady(socket string) bool {
	conn, err := net.Dial("unix", socket)
	if err != nil {
		return false
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Second))
	_, _ = io.WriteString(conn, "show proc\n")
	answer := make([]byte, 4096) // more than it says, and it comes at once
	n, _ := conn.Read(answer)
	return bytes.Contains(answer[:n], []byte("worker"))
}

// readPID reads the first line of a PID file; a HAProxy master writes its own
// PID there.
func readPID(path string) (int, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	line, _, _ := strings.Cut(string(data), "\n")
	return strconv.Atoi(strings.TrimSpace(line))
}
