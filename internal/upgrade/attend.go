package upgrade

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"reuseportd/internal/lifecycle"
	"reuseportd/internal/wire"
)

// What a worker says reaches the core one message at a time: the next one is read
// when the core has dealt with the one before, so a worker that talks without end has one
// place in the queue as any other, and is read at most burst and then perSecond
// messages. The rest waits in its own channel.
const (
	burst     = 512
	perSecond = 200
	// lastMessages bounds what is read of a dead worker's channel, into which somebody with a
	// duplicate may go on writing: more than its queue holds (net.unix.max_dgram_qlen).
	lastMessages = 1024
)

// attendance is the reading of one worker's channel and the watching of its process.
type attendance struct {
	quit chan struct{}  // closed by neglect
	done sync.WaitGroup // of its goroutines
	ends *deathWatch

	mu   sync.Mutex
	dead bool   // the process is
	next func() // for the core, not dealt with yet
}

// attend passes on what the worker says, then its death, in that order. Its death is
// that of the process, whoever has a duplicate of its end of the channel. It ends
// early, with nothing lost, when neglect is called.
func (p *proc) attend() {
	a := &attendance{quit: make(chan struct{})}
	p.attending = a
	var err error
	if a.ends, err = watchDeath(p.pidfd); err != nil {
		p.co.log.Error().Err(err).Int("worker_pid", p.pid).Msg("a worker's end is seen at its channel alone")
	} else {
		a.done.Go(func() {
			if a.ends.wait() {
				a.mu.Lock()
				a.dead = true
				a.mu.Unlock()
				_ = p.ch.StopReading()
			}
		})
	}
	a.done.Go(func() { p.listen(a) })
}

// listen is the goroutine that reads.
func (p *proc) listen(a *attendance) {
	pace := newPace(burst, perSecond)
	if a.ends != nil {
		defer a.ends.stop()
	}
	for {
		m, err := p.ch.Recv()
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			a.mu.Lock()
			dead := a.dead
			a.mu.Unlock()
			if dead {
				p.lastWords(a)
			}
			return
		case errors.Is(err, os.ErrClosed):
			return
		case errors.Is(err, io.EOF):
			p.ended(a)
			return
		}
		if !p.pass(a, m, err) || !pace.wait(a.quit) {
			return
		}
	}
}

// lastWords passes on what a dead worker has said, and its death.
func (p *proc) lastWords(a *attendance) {
	for range lastMessages {
		m, err := p.ch.Left()
		if errors.Is(err, wire.ErrWouldBlock) || errors.Is(err, io.EOF) || errors.Is(err, os.ErrClosed) {
			break
		}
		if !p.pass(a, m, err) {
			return
		}
	}
	p.ended(a)
}

// pass has the core deal with a message, or with the error of receiving one.
func (p *proc) pass(a *attendance, m wire.Message, err error) bool {
	return a.hand(p.co, func() {
		defer m.Close()
		switch _, unknown := wire.IsUnknown(err); {
		case !p.current(), unknown:
		case err != nil:
			p.complain(err, "a message from a worker was lost")
		default:
			p.co.received(p, m)
		}
	})
}

// ended has the core deal with the process's end. The end of the channel comes first
// where a worker has closed it, which none does that lives: it is killed then.
func (p *proc) ended(a *attendance) {
	if a.ends != nil && !a.isDead() {
		if !a.hand(p.co, func() {
			if p.current() {
				p.co.handle(lifecycle.WorkerMute{ID: p.id, Why: "it has closed its control channel"})
			}
		}) || !a.ends.wait() {
			return
		}
	}
	status := p.await()
	a.hand(p.co, func() {
		if p.current() {
			p.co.handle(lifecycle.WorkerExited{ID: p.id, Status: p.ending(status)})
		}
	})
}

func (a *attendance) isDead() bool { return a.ends.dead(closedGrace) }

// closedGrace is how long a process whose channel has ended may take to be dead: the kernel
// closes one before it tells of the other.
const closedGrace = time.Second

// hand has the core call f and waits for that; it reports whether to go on. When the worker is
// neglected meanwhile, f is left to whoever does that.
func (a *attendance) hand(co *coordinator, f func()) bool {
	done := make(chan struct{})
	a.mu.Lock()
	a.next = f
	a.mu.Unlock()
	deal := func() {
		defer close(done)
		a.deal()
	}
	select {
	case co.events <- deal:
	case <-a.quit:
		return false
	}
	select {
	case <-done:
		return true
	case <-a.quit:
		return false
	}
}

// deal calls what waits for the core, if nobody has.
func (a *attendance) deal() {
	a.mu.Lock()
	f := a.next
	a.next = nil
	a.mu.Unlock()
	if f != nil {
		f()
	}
}

// neglect stops attend, and deals with what had been read; what the worker says from
// here on waits in its channel, for whoever attends to it next. The core calls it.
func (p *proc) neglect() error {
	a := p.attending
	close(a.quit)
	err := p.ch.StopReading()
	if a.ends != nil {
		a.ends.stop()
	}
	a.done.Wait()
	a.deal()
	return err
}

// resume undoes neglect.
func (p *proc) resume() error {
	if err := p.ch.ResumeReading(); err != nil {
		return err
	}
	p.attend()
	return nil
}

// complain writes a line about what a worker has done, unless it has had too many: then
// they are counted, and told with the next one.
func (p *proc) complain(err error, text string) {
	ok, left := p.lines.take()
	if !ok {
		return
	}
	ev := p.co.log.Error().Err(err).Int("worker_pid", p.pid)
	if left > 0 {
		ev = ev.Uint64("lines_left_out", left)
	}
	ev.Msg(text)
}

// spoken is a text from a worker, bounded and of printable characters.
func spoken(text string) string {
	const most = 1024
	if len(text) > most {
		text = fmt.Sprintf("%s… (%d bytes)", text[:most], len(text))
	}
	return printable(text)
}
