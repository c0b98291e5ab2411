package upgrade

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"reuseportd/internal/custody"
	"reuseportd/internal/failpoint"
	"reuseportd/internal/lifecycle"
	"reuseportd/internal/record"
	"reuseportd/internal/wire"
)

// Adoption: the workers of a master that was killed serve on, each with a socket
// in the runtime directory (its rescue) at which it waits for the next master. What they are
// stands in the record; they bring descriptors, which are taken if they are those of the
// record.

// orphanPatience is how long orphans may take to hand themselves over: as long as a
// worker may leave a ping unanswered, and at least this.
const orphanPatience = 3 * time.Second

// endPatience is how long a process that was killed may take to be dead.
const endPatience = 5 * time.Second

// adoption is the one in progress.
type adoption struct {
	co       *coordinator
	rec      *record.Record
	deadline time.Time
	orphans  []*orphan
	strays   []*stray
}

// orphan is a worker of the record that lives.
type orphan struct {
	gen     *record.Generation
	rec     *record.Worker
	name    string // of its rescue
	pidfd   int    // the kernel's: the process that had this PID and start time
	ch      *wire.Conn
	brought *brought
	err     error // it is not adopted
}

// adoptOrphans finds the workers that a killed master has left and takes custody
// of what they have. It returns how many processes there are that may have something of the
// service. The lock must be held.
func (co *coordinator) adoptOrphans(patience time.Duration) (int, error) {
	rec, err := record.Load(co.dir)
	if err != nil {
		rec = new(record.Record)
		if !record.Missing(err) {
			co.log.Error().Err(err).Msg("what an earlier master wrote down of its service can't be read")
		}
	}
	a := &adoption{co: co, rec: rec}
	a.find()
	if err := a.knock(); err != nil {
		return 0, err
	}
	if err := a.settleStrays(record.Missing(err)); err != nil {
		n := len(a.orphans) + len(a.strays)
		a.close()
		return n, err
	}
	a.deadline = time.Now().Add(max(patience, orphanPatience)) // that others took their time is nobody's fault
	a.receive()
	if err := failpoint.Hit("adopt-received"); err != nil {
		return len(a.orphans), err
	}
	found := a.endFailed()
	defer a.closeFailed() // what of theirs isn't inherited
	if found == 0 {
		return 0, nil
	}
	return found, co.inherit(a)
}

// find looks for the processes of the record.
func (a *adoption) find() {
	for i := range a.rec.Generations {
		g := &a.rec.Generations[i]
		for j := range g.Workers {
			w := &g.Workers[j]
			pidfd, err := record.Find(w.PID, w.Start)
			if err != nil {
				continue // it has ended
			}
			a.orphans = append(a.orphans, &orphan{gen: g, rec: w, name: rescueName(lifecycle.ID{Generation: g.ID, Index: w.Index}), pidfd: pidfd})
		}
	}
}

// knock connects to every rescue, and has the kernel say who listens there. Nothing is said
// yet.
func (a *adoption) knock() error {
	names, err := a.co.dir.Names(rescuePrefix, rescueSuffix)
	if err != nil {
		return fmt.Errorf("look for workers that another master has left: %w", err)
	}
	expected := make(map[string]*orphan)
	for _, o := range a.orphans {
		o.err = errors.New("its rescue is gone")
		expected[o.name] = o
	}
	own := make(map[string]bool) // of a generation that gets ready
	for _, p := range a.co.procs {
		own[rescueName(p.id)] = true
	}
	began := time.Now()
	for len(names) > 0 {
		var full []string
		for _, name := range names {
			if !own[name] && !a.knockAt(name, expected[name]) {
				full = append(full, name)
			}
		}
		if names = full; len(names) > 0 {
			if time.Since(began) > knockPatience {
				a.full(names, expected)
				break
			}
			if err := failpoint.Hit("adopt-queue-full"); err != nil {
				return err
			}
			time.Sleep(knockEvery)
		}
	}
	return nil
}

// full notes the rescues whose queues stay full: of workers that hang, and of who knows whom.
func (a *adoption) full(names []string, expected map[string]*orphan) {
	for _, name := range names {
		if o := expected[name]; o != nil {
			o.err = errors.New("the queue of its rescue is full")
		} else {
			a.strays = append(a.strays, &stray{name: name, fd: -1, peer: record.Peer{PIDFD: -1}, err: errors.New("its queue is full")})
		}
	}
}

// A rescue whose queue is full is one of a worker that hangs, or others of this user call it without
// pause: one that lives finds room within so long. A worker that is not in the record, for its master was killed when it
// had just been started, ends in that time.
const (
	knockPatience = 2 * time.Second
	knockEvery    = 5 * time.Millisecond
)

// knockAt connects to one rescue, and returns false if there is no room in its queue for now. o is the
// worker that should listen there, nil if none should.
func (a *adoption) knockAt(name string, o *orphan) bool {
	fd, err := a.co.dir.Connect(name, unix.SOCK_SEQPACKET)
	switch {
	case errors.Is(err, unix.EAGAIN):
		return false
	case errors.Is(err, unix.ECONNREFUSED), errors.Is(err, unix.ENOENT):
		if o == nil {
			_ = a.co.dir.Remove(name) // its worker has ended
		}
		return true
	case err != nil && o != nil:
		o.err = err
		return true
	case err != nil:
		a.strays = append(a.strays, &stray{name: name, fd: -1, peer: record.Peer{PIDFD: -1}, err: err})
		return true
	}
	peer, err := record.PeerOf(fd)
	if o != nil && err == nil && peer.PIDFD >= 0 && o.is(peer) {
		_ = unix.Close(peer.PIDFD)
		o.ch, o.err = wire.FromFD(fd)
		return true
	}
	if o != nil {
		o.err = fmt.Errorf("process %d listens at its rescue", peer.PID)
	}
	a.strays = append(a.strays, &stray{name: name, fd: fd, peer: peer, err: err})
	return true
}

// is reports whether a process that lives is the orphan. The orphan's pidfd was opened
// before, so while it lives, its PID is no other's.
func (o *orphan) is(peer record.Peer) bool {
	if peer.PID != o.rec.PID {
		return false
	}
	start, err := record.StartTime(peer.PID)
	return err == nil && start == o.rec.Start && !record.Ended(o.pidfd, 0) && !record.Ended(peer.PIDFD, 0)
}

// receive asks all orphans at the same time for what they have: one that hangs takes
// nobody else's time.
func (a *adoption) receive() {
	type answer struct {
		o   *orphan
		b   *brought
		err error
	}
	answers := make(chan answer, len(a.orphans))
	asked := 0
	for _, o := range a.orphans {
		if o.err != nil {
			continue
		}
		asked++
		o.err = errors.New("it hangs")
		go func() {
			b, err := o.ask(a.rec, a.deadline)
			answers <- answer{o, b, err}
		}()
	}
	// Reading has its deadline; to close what came may hang, if it is of a file system that
	// its user made up (FUSE). Then the goroutine is left behind.
	late := time.After(time.Until(a.deadline) + time.Second)
	for range asked {
		select {
		case got := <-answers:
			got.o.brought, got.o.err = got.b, got.err
		case <-late:
			return
		}
	}
}

// ask says hello and takes what comes, to its end.
func (o *orphan) ask(rec *record.Record, deadline time.Time) (*brought, error) {
	_ = o.ch.SetWriteDeadline(time.Now().Add(time.Second))
	_ = o.ch.SetReadDeadline(deadline)
	if err := o.ch.Send(wire.KindHello, custody.Hello{PID: ownPID}); err != nil {
		return nil, err
	}
	b := newBrought(rec, o.gen, o.rec)
	for {
		m, err := o.ch.Recv()
		if err != nil {
			return b, fmt.Errorf("take what it has: %w", err)
		}
		done, err := b.take(m)
		m.Close()
		if err != nil {
			return b, fmt.Errorf("what it gives is not what an earlier master wrote down: %w", err)
		}
		if done {
			o.ch.RefuseFDs()
			return b, o.ch.ResumeReading()
		}
	}
}

// endFailed ends the orphans that are not adopted, and returns the number of the others. Their
// shards are kept. One that was never lent anything ends by itself.
func (a *adoption) endFailed() int {
	found := 0
	for _, o := range a.orphans {
		if o.err == nil {
			found++
			continue
		}
		if o.brought != nil {
			o.brought.closeFiles()
		}
		if !record.Ended(o.pidfd, 0) {
			a.co.log.Error().Str("error", spoken(o.err.Error())).Str("socket", o.name).Int("worker_pid", o.rec.PID).
				Msg("a worker of an earlier master does not hand itself over: it is ended, its places are filled anew")
			if _, err := o.seize(a.rec); err != nil {
				a.co.log.Warn().Err(err).Int("worker_pid", o.rec.PID).
					Msg("its sockets can't be taken before it ends: those who wait to be accepted by it are reset")
			}
			_ = unix.PidfdSendSignal(o.pidfd, unix.SIGKILL, nil, 0)
		}
	}
	for _, o := range a.orphans {
		if o.err != nil {
			_ = record.Ended(o.pidfd, endPatience) // so that nobody writes to its pages any more
			_ = a.co.dir.Remove(o.name)
			o.close()
		}
	}
	return found
}

// closeFailed lets go of what orphans that were ended had.
func (a *adoption) closeFailed() {
	for _, o := range a.orphans {
		if o.err != nil && o.brought != nil {
			o.brought.close()
		}
	}
}

func (o *orphan) close() {
	if o.ch != nil {
		_ = o.ch.Close()
	}
	_ = unix.Close(o.pidfd)
}

// close leaves everything as it was found.
func (a *adoption) close() {
	for _, o := range a.orphans {
		o.close()
	}
	for _, s := range a.strays {
		s.close()
	}
}
