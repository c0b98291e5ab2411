package worker

import (
	"time"

	"reuseportd/internal/wire"
)

// drain makes the worker exit when it has no lease and no connection left, and at the
// latest after timeout, with or without a master. With heirs, its connections are handed
// over. A second call sets a new timeout; 0 ends the worker at once.
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

// stopGrace is how long an idle kept connection stays open when the service stops, so that a request that is already under
// way is answered.
const stopGrace = time.Second

// closeIdle closes clients' idle connections after a time, and from then on again and again.
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

// awaitHeirs sets how long heirs may take connections: half of the time that is left. In
// the other half, clients are told to close.
func (w *worker) awaitHeirs() { w.giveUp = time.After(time.Until(w.drainUntil) / 2) }

// stay ends the handover of all loops.
func (w *worker) stay() {
	w.giveUp = nil
	for _, lp := range w.loops {
		lp.Post(lp.stay)
	}
}

// wake is called by a draining loop when it has become empty, on the loop's goroutine.
func (w *worker) wake() {
	w.mail.post(w.wakeIfEmpty)
}

// wakeIfEmpty ends the worker if nothing is left. A loop may have accepted connections
// since it reported that it was empty, so all are asked again. From then on a loop that
// is still empty takes nothing from other workers.
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
			lp.endWards()
		}
		return nil
	}, func(error) {
		for _, n := range counts {
			open += n
		}
		if open == 0 && w.leases <= 0 {
			w.end("drained", 0)
		}
	})
}

// cut cuts what is still open at the drain timeout.
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
		w.end("drain_timeout", 0)
	})
	// A loop that hangs must not keep the worker alive.
	time.AfterFunc(2*time.Second, func() {
		w.mail.post(func() { w.end("drain_timeout; a loop hangs", 1) })
	})
}

// broken is called when a loop has returned.
func (w *worker) broken(lp *loop, err error) {
	if w.exit {
		return
	}
	w.log.Error().Err(err).Int("slot", lp.slot).Msg("an event loop is broken; the worker ends, to be replaced")
	w.end("broken event loop", 1)
}

func (w *worker) end(reason string, status int) {
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
