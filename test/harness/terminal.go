package harness

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Terminal is a subcommand whose standard error, and standard output if it was
// asked for, is a terminal.
type Terminal struct {
	Stdout strings.Builder // empty if that is the terminal too; whole after Wait

	t    testing.TB
	cmd  *exec.Cmd
	read chan struct{}
	mu   sync.Mutex
	text strings.Builder
}

// Terminal starts a subcommand on a terminal of its own, pty(7).
func (s *Server) Terminal(both bool, args ...string) *Terminal {
	s.t.Helper()
	far, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	s.must(err)
	s.must(unix.IoctlSetPointerInt(int(far.Fd()), unix.TIOCSPTLCK, 0))
	n, err := unix.IoctlGetInt(int(far.Fd()), unix.TIOCGPTN)
	s.must(err)
	near, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	s.must(err)
	defer near.Close()
	c := &Terminal{t: s.t, cmd: s.command(args...), read: make(chan struct{})}
	c.cmd.Stderr, c.cmd.Stdout = near, io.Writer(&c.Stdout)
	if both {
		c.cmd.Stdout = near
	}
	c.cmd.WaitDelay = Within
	s.must(c.cmd.Start())
	managed.add(c.cmd.Process.Pid)
	go func() {
		defer close(c.read)
		defer far.Close()
		buf := make([]byte, 4096)
		for {
			n, err := far.Read(buf)
			c.mu.Lock()
			c.text.Write(buf[:n])
			c.mu.Unlock()
			if err != nil { // EIO, when nobody has the near end any more
				return
			}
		}
	}()
	return c
}

// Text is what the terminal has shown so far.
func (c *Terminal) Text() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return strings.ReplaceAll(c.text.String(), "\r\n", "\n")
}

// WaitText waits until the terminal shows text.
func (c *Terminal) WaitText(text string) {
	c.t.Helper()
	Wait(c.t, "the terminal to show "+text, func() bool { return strings.Contains(c.Text(), text) })
}

// Wait waits for the subcommand's end and returns its exit status.
func (c *Terminal) Wait() int {
	c.t.Helper()
	timer := time.AfterFunc(2*Within, func() { _ = c.cmd.Process.Kill() })
	defer timer.Stop()
	_ = c.cmd.Wait() // its state is in cmd
	managed.remove(c.cmd.Process.Pid)
	<-c.read
	return c.cmd.ProcessState.ExitCode()
}
