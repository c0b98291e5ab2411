package worker

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"reuseportd/internal/clients"
	"reuseportd/internal/config"
	"reuseportd/internal/eventloop"
	"reuseportd/internal/failpoint"
	"reuseportd/internal/load"
	"reuseportd/internal/logging"
	"reuseportd/internal/material"
	"reuseportd/internal/sandbox"
	"reuseportd/internal/service/http"
	"reuseportd/internal/stats"
	"reuseportd/internal/tls/transport"
	"reuseportd/internal/upstream"
	"reuseportd/internal/wire"
)

// worker is the process's state. All of it belongs to the goroutine of run; others post
// functions to its mailbox.
type worker struct {
	ch        *wire.Conn
	log       zerolog.Logger
	out       *logging.Output // of log
	logDrops  uint64          // dropped lines that have been added to the counters
	conf      *config.Config
	files     files // from Start
	accessFDs map[string]int
	loops     []*loop
	sites     []*http.Site
	materials *material.Set                  // nil if the configuration names none
	tls       map[string]*transport.Listener // by config.Listener.Key
	tlsTo     map[string]*tlsTo              // by an upstream's name
	region    *stats.Region
	board     *upstream.Board
	clients   *clients.Table // nil if the master has none
	upstreams *upstream.Set
	// unwatchUpstreams stops resolving names and checking servers.
	unwatchUpstreams func()
	load             *load.Table     // nil when the generation is not steered by load
	together         bool            // no two loops are pinned to different CPUs
	unordered        map[string]bool // by config.Listener.Key, see wire.Lease
	budget           *eventloop.Budget
	crowdedAt        time.Time // when the log last said that there was no room
	mail             *mailbox
	warnings         warnings // about other workers
	memory           eventloop.Memory
	share            atomic.Int64     // this process's share of memory in bytes; 0: no bound
	giveUp           <-chan time.Time // fires when heirs are no longer waited for

	stayed     atomic.Pointer[string] // why connections were not taken over; nil if all were, or the reason isn't known
	handedOver atomic.Int64           // when the last connection was taken over, Unix nanoseconds; 0 if none was
	granted    atomic.Int64           // descriptors that other workers may hand over to this one

	spoken     bool // its standard error is the service's
	start      wire.Start
	rescue     *os.File     // where an orphan waits for a master
	held       int          // the runtime directory, open so that cleaners leave it alone; -1 if it isn't open
	pprof      net.Listener // nil unless this worker gives profiles
	master     uint32       // the master's user
	seq        uint64       // the highest number that a master has given to a message
	drainUntil time.Time
	base       eventloop.Counters // when the drain began

	orphan   bool // the master is gone
	draining bool
	leases   int // held by all loops, as acknowledged
	lent     bool
	deadline <-chan time.Time
	exit     bool
	status   int
}

// run serves until the worker has nothing left to do.
func (w *worker) run() int {
	for _, lp := range w.loops {
		go func() {
			lp.pin()
			err := lp.Run()
			w.mail.post(func() { w.broken(lp, err) })
		}()
	}
	go w.receive()
	if w.pprof != nil {
		go w.servePprof()
	}
	if err := failpoint.Hit("worker-ready"); err != nil {
		_ = w.ch.Send(wire.KindFailed, wire.Failed{Error: err.Error()})
		return 1
	}
	go w.watchMemory()
	w.watchUpstreams()
	if w.conf.Sandbox.Seccomp {
		if err := sandbox.Filter(); err != nil { // as in a container that doesn't allow it; status says so
			w.log.Warn().Err(err).Msg("this worker may make any system call")
		}
	}
	w.send(wire.KindReady, wire.Ready{Room: w.capacity()})
	if w.materials != nil {
		w.send(wire.KindMaterialsTaken, wire.MaterialsTaken{Number: w.materials.Number})
	}
	for !w.exit {
		select {
		case <-w.mail.ready:
			for _, f := range w.mail.take() {
				f()
			}
		case <-w.giveUp:
			w.stay()
		case <-w.deadline:
			w.deadline = nil
			w.cut()
		}
	}
	var closing sync.WaitGroup
	for _, s := range w.sites {
		closing.Go(s.Close) // writes the lines of the access log that wait
	}
	closing.Wait()
	return w.status
}

// receive passes on the master's messages until the master is gone.
func (w *worker) receive() {
	ch := w.ch
	for {
		m, err := ch.Recv()
		if unknown, ok := wire.IsUnknown(err); ok {
			w.mail.post(func() { w.send(wire.KindUnknown, unknown) })
			continue
		}
		if errors.Is(err, io.EOF) {
			w.mail.post(w.orphaned)
			return
		}
		if err != nil {
			w.mail.post(func() { w.lost(m.Kind, err) })
			continue
		}
		w.mail.post(func() {
			defer m.Close()
			if err := w.handle(m); err != nil {
				w.log.Error().Err(err).Stringer("message", m.Kind).Msg("a message from the master was not understood")
			}
		})
	}
}

// handle carries out a message of the master.
func (w *worker) handle(m wire.Message) error {
	w.spoken = w.spoken || keepStderr()
	switch m.Kind {
	case wire.KindLend:
		var b wire.Lend
		if err := m.Decode(&b); err != nil {
			return err
		}
		w.lend(b, m)
	case wire.KindWithdraw:
		var b wire.Withdraw
		if err := m.Decode(&b); err != nil {
			return err
		}
		w.withdraw(b)
	case wire.KindDrain:
		var b wire.Drain
		if err := m.Decode(&b); err != nil {
			return err
		}
		w.drain(time.Duration(b.TimeoutMS)*time.Millisecond, b.Heirs, b.Gone)
	case wire.KindHeir:
		var b wire.Heir
		if err := m.Decode(&b); err != nil {
			return err
		}
		w.seq = max(w.seq, b.ID) // the master draws it from the same sequence
		if w.draining && w.giveUp == nil {
			w.awaitHeirs() // once more
		}
		return w.introduce(b.Slot, m, func(lp *loop, port *wire.Port) error { return lp.heir(b, port) })
	case wire.KindWard:
		var b wire.Ward
		if err := m.Decode(&b); err != nil {
			return err
		}
		return w.introduce(b.Slot, m, (*loop).ward)
	case wire.KindPing:
		var b wire.Ping
		if err := m.Decode(&b); err != nil {
			return err
		}
		w.countDrops()
		w.onLoops(func(*loop) error { return nil }, func(error) {
			w.send(wire.KindPong, wire.Pong{Seq: b.Seq, Draining: w.draining})
		})
	case wire.KindMemory:
		var b wire.Memory
		if err := m.Decode(&b); err != nil {
			return err
		}
		w.setMemory(b.Share)
	case wire.KindMaterials:
		return w.renewMaterials(m)
	case wire.KindLogs:
		var b wire.Logs
		if err := m.Decode(&b); err != nil {
			return err
		}
		w.reopen(newFiles(m, b.Files))
		_ = failpoint.Hit("worker-logs")
	case wire.KindRescue:
		var b wire.Rescue
		if err := m.Decode(&b); err != nil {
			return err
		}
		return w.renewRescue(newFiles(m, b.Files))
	default:
		w.send(wire.KindUnknown, wire.Unknown{Version: wire.Version, Kind: m.Kind})
	}
	return nil
}

// countDrops adds the log lines dropped since its last call to the counters. Only a loop may write those.
func (w *worker) countDrops() {
	if n := logging.Dropped() - w.logDrops; n > 0 && len(w.loops) > 0 {
		w.logDrops += n
		lp := w.loops[0]
		lp.Post(func() { lp.Count().LogDropped += n })
	}
}

// introduce gives a loop a channel to another worker's.
func (w *worker) introduce(slot int, m wire.Message, f func(*loop, *wire.Port) error) error {
	for _, lp := range w.loops {
		if lp.slot != slot {
			continue
		}
		port, err := wire.NewPort(m.Take(0))
		if err != nil {
			return err
		}
		lp.Post(func() {
			if err := f(lp, port); err != nil {
				lp.warn("can't watch a channel to another worker", 0, err.Error())
			}
		})
		return nil
	}
	return fmt.Errorf("slot %d is not this worker's", slot)
}

// send sends a message to the master, if there is one.
func (w *worker) send(kind wire.Kind, body any) {
	if w.orphan {
		return
	}
	_ = w.ch.SetWriteDeadline(time.Now().Add(5 * time.Second))
	if err := w.ch.Send(kind, body); err != nil && !errors.Is(err, wire.ErrGone) {
		w.log.Error().Err(err).Msg("can't answer the master")
	}
}

// onLoops runs f on every loop's goroutine. When all are done it runs then on the
// worker's goroutine, with the first error.
func (w *worker) onLoops(f func(*loop) error, then func(error)) {
	left := len(w.loops)
	var first error
	for _, lp := range w.loops {
		lp.Post(func() {
			err := f(lp)
			w.mail.post(func() {
				if first == nil {
					first = err
				}
				if left--; left == 0 {
					then(first)
				}
			})
		})
	}
}

// lend registers shards with the loops they are meant for: all of them or none.
func (w *worker) lend(b wire.Lend, m wire.Message) {
	w.lent, w.seq = true, max(w.seq, b.Seq)
	fds := make([]int, len(b.Leases))
	for i := range fds {
		fds[i] = m.Take(i)
		if b.Leases[i].Unordered {
			w.unordered[b.Leases[i].Key] = true
		}
	}
	w.onLoops(func(lp *loop) error {
		var err error
		for i, le := range b.Leases {
			if le.Slot == lp.slot {
				err = errors.Join(err, lp.listen(le, fds[i]))
			}
		}
		return err
	}, func(err error) {
		answer := wire.Lent{Seq: b.Seq}
		if err != nil {
			answer.Error = err.Error()
		}
		w.leases += len(b.Leases)
		w.send(wire.KindLent, answer)
	})
}

// listen takes one lease on; a second one for the same shard replaces the first.
func (lp *loop) listen(le wire.Lease, fd int) error {
	s := lp.services[le.Key]
	if s == nil {
		_ = unix.Close(fd)
		return errors.New("no service for " + le.Key)
	}
	id := lease{le.Key, le.Index}
	if old := lp.leases[id]; old != nil {
		lp.Unlisten(old)
	}
	sharing := eventloop.Sharing{Exclusive: le.Exclusive}
	var err error
	if le.Lock > 0 {
		if sharing.Mutex, err = lp.w.region.Lock(le.Lock - 1); err != nil {
			_ = unix.Close(fd)
			return err
		}
	}
	ln, err := lp.Listen(fd, s, sharing)
	if err != nil {
		_ = unix.Close(fd)
		return err
	}
	lp.leases[id] = ln
	return nil
}

// withdraw makes loops close shards, and tells the master.
func (w *worker) withdraw(b wire.Withdraw) {
	w.seq = max(w.seq, b.Seq)
	w.onLoops(func(lp *loop) error {
		for _, le := range b.Leases {
			if le.Slot == lp.slot {
				lp.unlisten(lease{le.Key, le.Index})
			}
		}
		return nil
	}, func(error) {
		w.leases -= len(b.Leases)
		w.send(wire.KindWithdrawn, wire.Withdrawn{Seq: b.Seq})
		w.wakeIfEmpty()
	})
}

func (lp *loop) unlisten(id lease) {
	if ln := lp.leases[id]; ln != nil {
		delete(lp.leases, id)
		lp.Unlisten(ln)
	}
}
