package upgrade

import (
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"reuseportd/internal/lifecycle"
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
	co := &coordinator{events: make(chan func(), 16)}
	p := newProc(co, lifecycle.ID{}, cmd.Process.Pid, 0, pidfd, ch)
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
	if err := p.neglect(); err != nil {
		t.Error(err)
	}
	_ = ch.Close()
	_ = unix.Close(pidfd)
	_ = cmd.Wait()
}

// TestNeglectKeepsWhatWasRead is a master that stops reading from its workers, as a next one
// takes over, while what they have said waits for it: it deals with that itself.
func TestNeglectKeepsWhatWasRead(t *testing.T) {
	ch, far, err := wire.Pair()
	if err != nil {
		t.Fatal(err)
	}
	fd, err := dupFile(far)
	if err != nil {
		t.Fatal(err)
	}
	peer, err := wire.FromFD(fd)
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	pidfd, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		t.Fatal(err)
	}
	co := &coordinator{events: make(chan func()), core: lifecycle.New(zerolog.Nop(), "", 1, 0, time.Now()), procs: make(map[lifecycle.ID]*proc)}
	id := lifecycle.ID{Generation: 1}
	p := newProc(co, id, os.Getpid(), 0, pidfd, ch)
	co.procs[id] = p
	p.words = dupFD(t, pidfd) // which its first message has it forget
	p.attend()
	if err := peer.Send(wire.KindBye, wire.Bye{Reason: "first"}); err != nil {
		t.Fatal(err)
	}
	for read := false; !read; { // and nobody takes it from the events
		p.attending.mu.Lock()
		read = p.attending.next != nil
		p.attending.mu.Unlock()
	}
	if err := p.neglect(); err != nil {
		t.Fatal(err)
	}
	if p.words >= 0 {
		t.Error("what it has said was not dealt with")
	}
	_ = ch.Close()
	_ = unix.Close(pidfd)
}
