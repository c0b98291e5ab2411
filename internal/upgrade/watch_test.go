package upgrade

import (
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"

	"reuseportd/internal/wire"
)

// TestDeathWithStolenChannel is a worker that dies while somebody else holds a duplicate of its end
// of the control channel: there is no end of file.
func TestDeathWithStolenChannel(t *testing.T) {
	cmd := exec.Command("cat")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pidfd, err := unix.PidfdOpen(cmd.Process.Pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	ch, far, err := wire.Pair()
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	died := make(chan struct{})
	co := &coordinator{events: make(chan func(), 16), core: &core{}}
	w := &worker{gen: &generation{}}
	p := &proc{co: co, w: w, pid: cmd.Process.Pid, pidfd: pidfd, ch: ch}
	p.attend()
	if err := p.neglect(); err != nil { // an upgrade that comes to nothing
		t.Fatal(err)
	}
	if err := p.resume(); err != nil {
		t.Fatal(err)
	}
	go func() { <-co.events; close(died) }()
	_ = in.Close()
	<-died
	p.watch.stop()
	_ = ch.Close()
	_ = unix.Close(pidfd)
	_ = cmd.Wait()
}
