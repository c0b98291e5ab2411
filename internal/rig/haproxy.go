package rig

import (
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// HAProxy is HAProxy in master-worker mode, with one worker that has threads.
type HAProxy struct {
	*Server
	Conf string // its configuration file, which its user writes
	dir  string
}

// NewHAProxy finds HAProxy, whose address is free. The error is that of
// exec.LookPath if there is none.
func NewHAProxy(dir string) (*HAProxy, error) {
	path, err := exec.LookPath("haproxy")
	if err != nil {
		return nil, err
	}
	if path, err = filepath.EvalSymlinks(path); err != nil {
		return nil, err
	}
	address, err := FreeAddress()
	if err != nil {
		return nil, err
	}
	h := &HAProxy{dir: dir, Conf: filepath.Join(dir, "haproxy.cfg")}
	h.Server = &Server{
		Name:    "HAProxy",
		Version: FirstLine(exec.Command(path, "-v")),
		Address: address,
		Args:    []string{path, "-f", h.Conf, "-W", "-p", h.pidFile(), "-S", h.socket()},
		Quit:    syscall.SIGTERM,
		Log:     filepath.Join(dir, "haproxy.log"),
	}
	return h, nil
}

func (h *HAProxy) pidFile() string { return filepath.Join(h.dir, "haproxy.pid") }
func (h *HAProxy) socket() string  { return filepath.Join(h.dir, "haproxy-master.sock") }

// Master reads the PID file, whose first line is the master's own.
func (h *HAProxy) Master() (int, error) { return readPID(h.pidFile()) }

// Ready asks the master on its own socket whether it has a worker. After loading a
// configuration it executes itself again; a signal that comes at that moment is lost.
func (h *HAProxy) Ready() bool {
	conn, err := net.Dial("unix", h.socket())
	if err != nil {
		return false
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Second))
	_, _ = io.WriteString(conn, "show proc\n")
	answer := make([]byte, 4096) // more than the whole answer, which comes at once
	n, _ := conn.Read(answer)
	for line := range strings.Lines(string(answer[:n])) {
		if row := strings.Fields(line); len(row) > 1 && row[1] == "worker" { // and isn't a heading
			return true
		}
	}
	return false
}

// Reload makes the master reload its configuration. It must be Ready.
func (h *HAProxy) Reload() error {
	pid, err := h.Master()
	if err != nil {
		return err
	}
	return syscall.Kill(pid, syscall.SIGUSR2)
}
