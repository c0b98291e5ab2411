package upgrade

import (
	"fmt"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"reuseportd/internal/control"
	"reuseportd/internal/lifecycle"
	"reuseportd/internal/record"
	"reuseportd/internal/wire"
)

// A cleaner or an operator may remove the runtime directory, or any file in it, while the
// service runs. Nothing that serves needs them; but who asks the master, starts one or
// comes after a killed one does. So the master looks after them and makes anew what
// is lost.

const (
	// keepEvery is how often it looks: a few fstat(2).
	keepEvery = 500 * time.Millisecond
	// touchEvery is how often it sets the files' times, for cleaners that go by age.
	touchEvery = time.Hour
)

// keeping is what became of the runtime directory since the start.
type keeping struct {
	socket  uint64 // inode of the control socket
	touched time.Time
	made    string    // what was made anew last,
	madeAt  time.Time // and when; zero if nothing was
	problem string    // why something is still lost, "" if nothing is
}

// keepDir looks after the runtime directory, and reports whether anything in it was made anew.
// While an upgrade is in progress two masters share what is in it: whichever stays looks
// again.
func (co *coordinator) keepDir() (made bool) { return co.keeps() && co.restore() }

// keepAddresses looks after what the service listens at.
func (co *coordinator) keepAddresses() {
	if co.keeps() && co.owner && co.announced {
		co.handle(lifecycle.Look{})
	}
}

// keeps reports whether this master, and no other, is to look after the service.
func (co *coordinator) keeps() bool {
	if co.exiting || co.next != 0 {
		return false
	}
	_, next := co.core.Change()
	return !next
}

// restore makes anew what is lost, and says so.
func (co *coordinator) restore() bool {
	if !co.owner || !co.announced {
		return false
	}
	var made []string
	err := co.restoreDir(&made)
	if err == nil {
		err = co.restoreFiles(&made)
	}
	problem := ""
	if err != nil {
		problem = err.Error()
	}
	k := &co.keeping
	if problem != k.problem && problem != "" {
		co.log.Error().Err(err).Msg("the runtime directory has lost something that can't be made anew; it is tried again")
	}
	k.problem = problem
	if len(made) > 0 {
		k.made, k.madeAt = strings.Join(made, ", "), time.Now()
		co.log.Warn().Str("directory", co.dir.Path()).Str("made", k.made).
			Msg("somebody has removed what this service needs in its runtime directory; it was made anew")
	}
	if now := time.Now(); now.Sub(k.touched) >= touchEvery {
		k.touched = now
		if err := co.dir.Touch(); err != nil {
			co.log.Warn().Err(err).Msg("the times of files in the runtime directory can't be set: a cleaner may take them for old")
		}
	}
	return len(made) > 0
}

// restoreDir makes the directory and its lock anew.
func (co *coordinator) restoreDir(made *[]string) error {
	if !co.dir.Lost() {
		renewed, err := co.lock.Renew()
		if renewed {
			*made = append(*made, "lock")
		}
		return err
	}
	fresh, err := co.dir.Remake()
	if err != nil {
		return err
	}
	lock, err := fresh.Lock()
	if err != nil {
		_ = fresh.Close()
		return err
	}
	_ = co.lock.Detach()
	_ = co.dir.Close()
	co.dir, co.lock = fresh, lock
	*made = append(*made, "the directory", "lock")
	return nil
}

// restoreFiles makes anew what is in the directory.
func (co *coordinator) restoreFiles(made *[]string) error {
	if co.dir.Held() < 0 {
		_ = co.dir.Hold(0) // a cleaner is at work; the next time, then
	}
	if ino := co.dir.Inode(control.SocketName); ino == 0 || ino != co.keeping.socket {
		l, err := control.Listen(co.dir)
		if err != nil {
			return err
		}
		_ = co.listener.Close() // who has connected to it is served
		co.listener, co.keeping.socket = l, co.dir.Inode(control.SocketName)
		co.serveOn(l)
		*made = append(*made, control.SocketName)
	}
	if co.dir.Inode(PIDFile) == 0 {
		if err := co.writePID(); err != nil {
			return err
		}
		*made = append(*made, PIDFile)
	}
	if co.dir.Inode(receiptsFile) == 0 && len(co.core.Receipts()) > 0 {
		co.keepReceipts(co.core.Receipts())
		*made = append(*made, receiptsFile)
	}
	if co.recording && co.dir.Inode(record.File) == 0 {
		co.recorded = nil // it is written at the end of the turn
		*made = append(*made, record.File)
	}
	return co.restoreRescues(made)
}

// restoreRescues gives each worker whose rescue is lost another one.
func (co *coordinator) restoreRescues(made *[]string) error {
	for _, p := range co.procs {
		name := rescueName(p.id)
		if p.rescue != 0 && co.dir.Inode(name) == p.rescue || co.core.Doomed(p.id) || co.core.Starting(p.id) {
			continue
		}
		fd, err := co.makeRescue(p.id)
		if err != nil {
			return err
		}
		files, fds := []string{wire.FileRescue}, []int{fd}
		if held := co.dir.Held(); held >= 0 {
			files, fds = append(files, wire.FileRunDir), append(fds, held)
		}
		err = p.send(wire.KindRescue, wire.Rescue{Files: files}, fds...)
		_ = unix.Close(fd)
		if err != nil {
			return fmt.Errorf("give the worker %d a new %s: %w", p.pid, name, err)
		}
		p.rescue = co.dir.Inode(name)
		*made = append(*made, name)
	}
	return nil
}

// runtimeDir describes the directory for `status`.
func (co *coordinator) runtimeDir() *control.RuntimeDir {
	k := &co.keeping
	d := &control.RuntimeDir{Path: co.dir.Path(), Unsafe: co.dir.Unsafe(), Problem: k.problem}
	if !k.madeAt.IsZero() {
		at := k.madeAt
		d.Remade, d.RemadeAt = k.made, &at
	}
	return d
}

// giveRescue makes the rescue that a worker is started with, and returns -1 if that can't be:
// a worker without one is better than none.
func (co *coordinator) giveRescue(p *proc) int {
	if co.dir.Lost() {
		co.keepDir()
	}
	fd, err := co.makeRescue(p.id)
	if err != nil { // keepDir tries again
		co.log.Error().Err(err).Int("worker_pid", p.pid).
			Msg("should this master be killed, the next one can't take this worker over")
		return -1
	}
	p.rescue = co.dir.Inode(rescueName(p.id))
	return fd
}
