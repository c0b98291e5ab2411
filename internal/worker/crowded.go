package worker

import (
	"errors"
	"fmt"
	"time"

	"reuseportd/internal/eventloop"
	"reuseportd/internal/wire"
)

// crowded is called by a loop that closed connections to make room for others, or that makes others
// wait. It must not wait for the log.
func (w *worker) crowded(full bool) {
	why, remedy := "descriptors", "raise the limit (LimitNOFILE in the unit, ulimit -n)"
	if full {
		why = fmt.Sprintf("max_connections is %d for each worker", w.conf.MaxConnections)
		remedy = "raise max_connections"
	}
	w.mail.offer(func() {
		if now := time.Now(); now.Sub(w.crowdedAt) >= crowdedEvery {
			w.crowdedAt = now
		} else {
			return // another loop has said it
		}
		var now eventloop.Counters
		for i := range w.loops {
			page := w.region.Read(i)
			now.Add(&page)
		}
		w.log.Warn().Uint64("connections", now.Open).Uint64("upstream_connections", now.UpstreamOpen).
			Int("room", w.budget.Room()).Uint64("idle_closed", now.IdleClosed).Uint64("no_room", now.NoRoom).
			Uint64("accept_nofd", now.AcceptNoFD).Uint64("accept_paused", now.AcceptPaused).
			Msgf("no room for more connections (%s): the longest idle ones are closed for others, and where there are none, new ones wait; %s", why, remedy)
	})
}

// crowdedEvery is the least time between two log lines that say that there is no room.
const crowdedEvery = 10 * time.Second

// stays records why connections were not taken over, for the master.
func (w *worker) stays(why string) {
	if why != "" {
		w.stayed.CompareAndSwap(nil, &why)
	}
}

// lost tells the master which of its messages came without its descriptors. Those that did come are
// closed.
func (w *worker) lost(kind wire.Kind, err error) {
	w.log.Error().Err(err).Stringer("message", kind).Msg("a message from the master was lost")
	if errors.Is(err, wire.ErrTruncated) {
		w.budget.Refresh()
		w.send(wire.KindLost, wire.Lost{Kind: kind, Error: err.Error()})
	}
}
