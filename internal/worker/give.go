package worker

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"

	"reuseportd/internal/eventloop"
	"reuseportd/internal/failpoint"
	"reuseportd/internal/handover"
	"reuseportd/internal/wire"
)

// giftBatch bounds the descriptors of one offer, which a loop gives in one turn and
// another takes in one turn. Clients that are being served wait for that long.
const giftBatch = 64

// giving is the handover of a draining loop's connections. It belongs to the
// loop's goroutine.
type giving struct {
	on    bool
	asked bool // give will be called in the next turn
	rule  handover.Giver[eventloop.Departure]
	heirs map[uint64]*wire.Port
	keys  map[*eventloop.Service]string
	items []handover.Item // reused
}

// drainTo lets the loop's connections go to its heirs.
func (lp *loop) drainTo() {
	g := &lp.giving
	g.on = true
	if g.keys == nil {
		g.keys = make(map[*eventloop.Service]string)
		for key, s := range lp.services {
			g.keys[s] = key
		}
	}
	lp.DrainTo(lp.giveSoon)
}

// heir registers a channel to a loop that takes connections.
func (lp *loop) heir(b wire.Heir, port *wire.Port) error {
	g := &lp.giving
	if err := lp.Watch(port.FD(), func() { lp.hear(b.ID, port) }); err != nil {
		port.Close()
		return err
	}
	if g.heirs == nil {
		g.heirs = make(map[uint64]*wire.Port)
	}
	g.heirs[b.ID] = port
	g.rule.Join(b.ID, b.Generation)
	if g.keys != nil && !g.on { // an earlier heir had no room
		lp.drainTo()
	}
	return nil
}

// hear handles one message of an heir.
func (lp *loop) hear(id uint64, port *wire.Port) {
	m, err := port.Recv()
	if _, unknown := wire.IsUnknown(err); unknown || errors.Is(err, wire.ErrWouldBlock) {
		return
	}
	if err == nil {
		defer m.Close()
		err = lp.heard(id, m)
	}
	if err != nil { // mostly: the heir has gone
		lp.heirLost(id, true)
	}
}

func (lp *loop) heard(id uint64, m wire.Message) error {
	switch m.Kind {
	case wire.KindGrant:
		var b wire.Grant
		if err := m.Decode(&b); err != nil {
			return err
		}
		lp.giving.rule.Grant(id, b.Room)
		if b.Room == 0 {
			lp.w.stays(b.Why)
			lp.warn("the next generation has no room for more connections; the rest ends here", 0, b.Why)
		}
		lp.giveSoon()
	case wire.KindAnswer:
		var b wire.Answer
		if err := m.Decode(&b); err != nil {
			return err
		}
		lp.answered(id, b)
	case wire.KindUnknown:
		lp.warn("the next generation's release does not know this handover; connections end here", 0, "")
		lp.heirLost(id, false)
		lp.stay()
	}
	return nil
}

// giveSoon makes the loop call give after the connections that are being served have had
// their turn.
func (lp *loop) giveSoon() {
	if g := &lp.giving; g.on && !g.asked {
		g.asked = true
		lp.Post(func() {
			g.asked = false
			lp.give()
		})
	}
}

// give makes one offer, if there is something to give and an heir has room.
func (lp *loop) give() {
	g := &lp.giving
	if !g.on {
		return
	}
	id, room, ok := g.rule.Pick(giftBatch)
	if !ok {
		if g.rule.Full() {
			lp.stay()
		}
		return
	}
	gifts := lp.Depart(room)
	g.items = g.items[:0]
	for i := range gifts {
		g.items = append(g.items, handover.Item{Key: g.keys[gifts[i].Service], Parcel: gifts[i].Parcel})
	}
	b, fds, format := handover.Encode(g.items)
	seq, _ := g.rule.Offer(id, gifts, room-len(fds))
	if len(gifts) == 0 {
		return
	}
	_ = failpoint.Hit("handover-offer")
	err := sendOffer(g.heirs[id], wire.Offer{Seq: seq, Format: format, Lives: handover.EncodeLives(g.items)}, b, fds)
	switch {
	case err == nil:
		_ = failpoint.Hit("handover-offered")
		lp.giveSoon()
	case errors.Is(err, wire.ErrGone):
		// The heir's last messages are handled first, then its end.
	case errors.Is(err, wire.ErrWouldBlock):
		lp.keep(g.rule.Unsent(id, seq, min(room, len(fds))), true) // it says more when it has read what is queued
	case scarce(err):
		// A limit of this process or of the user (descriptors in flight, unix(7)): that passes.
		lp.keep(g.rule.Unsent(id, seq, min(room, len(fds))), true)
		time.AfterFunc(scarceRetry, func() { lp.Post(lp.giveSoon) })
	default:
		lp.w.stays(err.Error())
		lp.warn("connections can't be handed over; they end here", len(gifts), err.Error())
		lp.keep(g.rule.Unsent(id, seq, min(room, len(fds))), false)
		lp.giveSoon()
	}
}

// scarceRetry is the time until connections are offered again that could not be sent for
// want of descriptors or memory.
const scarceRetry = 50 * time.Millisecond

// scarce reports whether an error is a shortage that may pass.
func scarce(err error) bool {
	for _, errno := range [...]unix.Errno{unix.EMFILE, unix.ENFILE, unix.ENOMEM, unix.ENOBUFS, unix.ETOOMANYREFS} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}

// sendOffer sends one offer.
func sendOffer(port *wire.Port, offer wire.Offer, b []byte, fds []int) error {
	memfd, err := wire.Memfd("reuseportd-handover", b)
	if err != nil {
		return err
	}
	defer unix.Close(memfd)
	return port.Send(wire.KindOffer, offer, append([]int{memfd}, fds...)...)
}

// answered ends the connections that an heir has taken, and keeps those that it has
// refused.
func (lp *loop) answered(id uint64, b wire.Answer) {
	taken, kept := lp.giving.rule.Answer(id, b.Seq, b.None, b.Refused)
	if len(kept) > 0 {
		lp.w.stays(b.Reason)
		lp.warn("connections were not taken over; they end here", len(kept), b.Reason)
	}
	_ = failpoint.Hit("handover-answered")
	if len(taken) > 0 {
		lp.w.handedOver.Store(time.Now().UnixNano())
	}
	for i := range taken {
		lp.Departed(&taken[i])
	}
	lp.keep(kept, false)
}

// heirLost removes an heir, and keeps the connections that it had not answered for.
func (lp *loop) heirLost(id uint64, again bool) {
	back := lp.giving.rule.Leave(id)
	if port := lp.giving.heirs[id]; port != nil {
		lp.Unwatch(port.FD())
		port.Close()
		delete(lp.giving.heirs, id)
	}
	lp.keep(back, again)
	lp.giveSoon()
}

// keep continues to serve connections that nobody has taken.
func (lp *loop) keep(gifts []eventloop.Departure, again bool) {
	for i := range gifts {
		lp.Return(&gifts[i], again)
	}
}

// stay ends the handover: the connections that are still here end here, each with its
// next answer. Offers that have been sent are still answered for.
func (lp *loop) stay() {
	lp.giving.on = false
	lp.Stay()
}

// warn makes the worker's goroutine log a line, since a loop doesn't wait for the log. Other workers can cause
// such lines, so their number and length are bounded.
func (lp *loop) warn(text string, connections int, reason string) {
	w := lp.w
	w.mail.offer(func() {
		ok, left := w.warnings.take(time.Now())
		if !ok {
			return
		}
		ev := w.log.Warn()
		if connections > 0 {
			ev = ev.Int("connections", connections)
		}
		if reason != "" {
			ev = ev.Str("reason", spoken(reason))
		}
		if left > 0 {
			ev = ev.Uint64("lines_left_out", left)
		}
		ev.Msg(text)
	})
}
