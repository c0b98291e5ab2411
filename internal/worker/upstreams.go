package worker

import (
	"context"
	"time"

	"reuseportd/internal/service/failure"
	"reuseportd/internal/upstream"
)

// resolvePatience bounds how long a worker waits for servers' names to be resolved before
// it is ready: a name server that doesn't answer must not keep a service from starting.
const resolvePatience = 3 * time.Second

// openBoard maps the board of the service. A master of an older release sends none; then
// the worker makes one of its own.
func openBoard(fd int) (*upstream.Board, error) {
	if fd < 0 {
		return upstream.NewBoard()
	}
	return upstream.AdoptBoard(fd, upstream.Format) // the master is of this release
}

// watchUpstreams starts resolving names and checking servers, and waits until each name
// has been looked up once.
func (w *worker) watchUpstreams() {
	ctx, cancel := context.WithCancel(context.Background())
	w.unwatchUpstreams = cancel
	if len(w.conf.Upstreams) == 0 {
		return
	}
	go w.upstreams.Run(ctx)
	patience := time.NewTimer(min(resolvePatience, w.conf.StartTimeout/2))
	defer patience.Stop()
	select {
	case <-w.upstreams.Resolved():
	case <-patience.C:
		if without := w.upstreams.Nameless(); len(without) > 0 {
			w.log.Warn().Strs("servers", without).Msg("these names of servers are not looked up yet; serving without these servers until they are")
		} else {
			w.log.Warn().Msg("names of servers are not looked up yet; serving with the addresses that were known before")
		}
	}
}

// upstreamChanged logs a change of a server. Its callers, such as loops, must not wait
// for the log, so it doesn't.
func (w *worker) upstreamChanged(e upstream.Event) {
	w.mail.offer(func() {
		ev := w.log.Warn()
		if e.From != e.To && (e.To == upstream.Up || e.To == upstream.SlowStart) {
			ev = w.log.Info()
		}
		ev = ev.Str("upstream", e.Upstream).Str("server", e.Server).Str("reason", e.Why)
		if e.From == e.To {
			ev.Msg("about a server of an upstream")
			return
		}
		ev.Stringer("was", e.From).Stringer("is", e.To).Msg("a server of an upstream has changed its state")
	})
}

// failed logs a failure between a client and a server. It is called by loops.
func (w *worker) failed(f failure.Failure) {
	w.mail.offer(func() {
		ev := w.log.Warn().Str("listener", f.Listener)
		if f.Upstream != "" {
			ev = ev.Str("upstream", f.Upstream)
		}
		if f.Server != "" {
			ev = ev.Str("server", f.Server)
		}
		ev = ev.Str("reason", f.Reason)
		if f.Text != "" {
			ev = ev.Str("detail", f.Text)
		}
		if f.Suppressed > 0 {
			ev = ev.Int("suppressed", f.Suppressed)
		}
		if f.Server != "" {
			ev.Msg("a server has failed")
		} else {
			ev.Msg("a client was turned away")
		}
	})
}
