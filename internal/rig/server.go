package rig

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"syscall"
	"time"
)

// Server is one server under measurement. Adopt must have been called.
type Server struct {
	Name    string
	Version string
	Address string // of its HTTP listener, HOST:PORT
	// Args is the command line. Args[0] is the binary's path with no symbolic link in it, by
	// which the server's processes are recognized.
	Args []string
	// Path is what is executed, if that is not Args[0]. A link such as /proc/self/exe is
	// resolved each time, so that a renamed binary is still recognized.
	Path string
	// NoFile is the limit of descriptors (RLIMIT_NOFILE, soft and hard) of each of the server's processes; 0: this
	// process's. With NoFile, Path must be empty.
	NoFile uint64
	Quit   syscall.Signal // ends it gracefully
	Log    string         // path of what it prints

	ended chan error
	alone chan struct{} // closed when the guard of Launch is gone
}

// Launch starts the server without waiting for it. It gets a process group of its own,
// since an interrupt at the terminal is for this process, which ends the servers. If this
// process is killed, the kernel ends the server, and so does a guard: a server that changes its identity, even for a moment,
// loses the kernel's signal.
func (s *Server) Launch() error {
	log, err := os.OpenFile(s.Log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := s.command()
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: s.Quit}
	started, ended, alone := make(chan error, 1), make(chan error, 1), make(chan struct{})
	go func() {
		// Pdeathsig is sent when the thread that started the process ends.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(alone)
		err := cmd.Start()
		if err != nil {
			started <- err
			return
		}
		dismiss := guard(cmd.Process.Pid, s.Quit)
		started <- nil
		err = cmd.Wait()
		dismiss()
		ended <- err
	}()
	s.ended, s.alone = ended, alone
	return <-started
}

// guard has a shell wait for this process's end, by the end of a pipe, and then signal a process. dismiss ends it.
func guard(pid int, sig syscall.Signal) (dismiss func()) {
	r, w, err := os.Pipe()
	if err != nil {
		return func() {}
	}
	defer r.Close()
	sh := exec.Command("/bin/sh", "-c", `read _; kill -"$1" "$0"`, strconv.Itoa(pid), strconv.Itoa(int(sig)))
	sh.Stdin, sh.SysProcAttr = r, &syscall.SysProcAttr{Setpgid: true}
	if sh.Start() != nil {
		return func() { _ = w.Close() }
	}
	return func() {
		_ = sh.Process.Kill() // before it reads the end
		_ = w.Close()
		_ = sh.Wait() // killed
	}
}

// command returns what Launch starts. A limit is set by a shell that then executes the server, so that it applies from
// the server's first instruction, and to no other process.
func (s *Server) command() *exec.Cmd {
	if s.NoFile > 0 {
		limited := []string{"-c", `ulimit -n "$0" && exec "$@"`, strconv.FormatUint(s.NoFile, 10)}
		return exec.Command("/bin/sh", append(limited, s.Args...)...)
	}
	cmd := exec.Command(s.Args[0], s.Args[1:]...)
	if s.Path != "" {
		cmd.Path, cmd.Err = s.Path, nil
	}
	return cmd
}

// Ended returns a channel that gets the result of the process that Launch started: nil
// for status 0.
func (s *Server) Ended() <-chan error { return s.ended }

// Start launches the server and returns when it accepts connections.
func (s *Server) Start(ctx context.Context) error {
	err := s.Launch()
	if err == nil {
		err = s.wait(ctx)
	}
	if err != nil {
		s.Stop()
		return fmt.Errorf("start %s: %w", s.Name, err)
	}
	return nil
}

func (s *Server) wait(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	ended := s.ended
	for {
		if conn, err := net.Dial("tcp", s.Address); err == nil {
			return conn.Close()
		}
		select {
		case err := <-ended:
			if err != nil {
				text, _ := os.ReadFile(s.Log)
				return fmt.Errorf("%w\n%s", err, text)
			}
			ended = nil // it has become a daemon
		case <-ctx.Done():
			return fmt.Errorf("it doesn't listen on %s: %w", s.Address, ctx.Err())
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// Stop ends the server and all its processes.
func (s *Server) Stop() {
	all := s.Processes()
	is := make(map[int]bool)
	for _, p := range all {
		is[p.PID] = true
	}
	for _, p := range all {
		if !is[p.PPID] { // a master, or a worker whose master is gone
			_ = syscall.Kill(p.PID, s.Quit)
		}
	}
	for end := time.Now().Add(5 * time.Second); len(s.Processes()) > 0; {
		if time.Now().After(end) {
			for _, p := range s.Processes() {
				_ = syscall.Kill(p.PID, syscall.SIGKILL)
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
	if s.alone != nil {
		<-s.alone
	}
}
