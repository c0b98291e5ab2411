package worker

import (
	"time"

	"reuseportd/internal/wire"
)

// drain ends the worker when it has no lease and no connection left, and in any
// case at the deadline, for which it needs no master.
// With heirs, its connections are handed over. Asked again it has the time that is
// said then: 0 ends it.
func (w *worker) drain(timeout time.Duration, heirs bool, gone []string) {
	w.deadline, w.drainUntil = time.After(timeout), time.Now().Add(timeout)
	if w.draining {
		if !heirs {
			w.stay()
		}
		return
	}
	w.draining = true
	w.unwatchUpstreams()
	for i := range w.loops {
		now := w.region.Read(i)
		w.base.Add(&now)
	}
	w.log.Debug().Dur("timeout", timeout).Bool("heirs", heirs).Msg("draining")
	if heirs {
		w.awaitHeirs()
	} else {
		w.closeIdle(stopGrace)
	}
	w.onLoops(func(lp *loop) error {
		if heirs {
			for _, key := range gone {
				if s := lp.services[key]; s != nil {
					s.Stay()
				}
			}
			lp.drainTo()
		} else {
			lp.Drain()
		}
		return nil
	}, func(error) { w.wakeIfEmpty() })
}

// stopGrace is how long an idle kept connection has for a request that is on its way when the service stops: it is answered.
const stopGrace = time.Second

// closeIdle closes after a time, and every now and then from there on, the idle connections of clients.
func (w *worker) closeIdle(after time.Duration) {
	time.AfterFunc(after, func() {
		w.mail.post(func() {
			for _, lp := range w.loops {
				lp.Post(func() { lp.CloseIdle(stopGrace) })
			}
			w.closeIdle(stopGrace / 4)
		})
	})
}

// awaitHeirs sets the time until which heirs may take what there is: half of what is
// left. The other half is for clients to be told.
func (w *worker) awaitHeirs() { w.giveUp = time.After(time.Until(w.drainUntil) / 2) }

// stay ends the handover of all loops.
func (w *worker) stay() {
	w.giveUp = nil
	for _, lp := range w.loops {
		lp.Post(lp.stay)
	}
}

// wake is called by a draining loop that has become empty, on its goroutine.
func (w *worker) wake() {
	w.mail.post(w.wakeIfEmpty)
}

// wakeIfEmpty ends the worker if nothing is left. A loop may have accepted since
// it said that it was empty, so all are asked again; one that is empty still takes
// nothing from others any more.
func (w *worker) wakeIfEmpty() {
	if !w.draining || w.leases > 0 || w.exit {
		return
	}
	open := 0
	counts := make([]int, len(w.loops))
	w.onLoops(func(lp *loop) error {
		for i := range w.loops {
			if w.loops[i] == lp {
				counts[i] = lp.Open()
			}
		}
		if lp.Open() == 0 {
			lp.dismissAll()
		}
		return nil
	}, func(error) {
		for _, n := range counts {
			open += n
		}
		if open == 0 && w.leases <= 0 {
			w.leave("drained", 0)
		}
	})
}

// cut ends what the drain timeout found unfinished.
func (w *worker) cut() {
	open := make([]int, len(w.loops))
	w.onLoops(func(lp *loop) error {
		for id := range lp.leases {
			lp.unlisten(id)
		}
		for i := range w.loops {
			if w.loops[i] == lp {
				open[i] = lp.Open()
			}
		}
		lp.Cut()
		return nil
	}, func(error) {
		total := 0
		for _, n := range open {
			total += n
		}
		w.log.Warn().Int("connections", total).Msg("drain_timeout has passed; what was open is cut")
		w.leave("drain_timeout", 0)
	})
	// A loop that hangs must not keep the worker beyond its time.
	time.AfterFunc(2*time.Second, func() {
		w.mail.post(func() { w.leave("drain_timeout; a loop hangs", 1) })
	})
}

// broken is called when a loop has returned.
func (w *worker) broken(lp *loop, err error) {
	if w.exit {
		return
	}
	w.log.Error().Err(err).Int("slot", lp.slot).Msg("an event loop is broken; the worker ends, to be replaced")
	w.leave("broken event loop", 1)
}

func (w *worker) leave(reason string, status int) {
	if w.exit {
		return
	}
	w.exit, w.status = true, status
	bye := wire.Bye{Reason: reason}
	if why := w.stayed.Load(); why != nil {
		bye.Stayed = *why
	}
	if at := w.handedOver.Load(); at != 0 {
		bye.HandedOver = time.Unix(0, at)
	}
	w.send(wire.KindBye, bye)
}

// panicked is called on a loop's goroutine, which must not wait for the log.
func (w *worker) panicked(value any, stack []byte) {
	w.mail.offer(func() {
		w.log.Error().Interface("panic", value).Bytes("stack", stack).
			Msg("a service panicked; its connection was closed, the loop goes on")
	})
}
