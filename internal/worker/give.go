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

// giftBatch bounds the descriptors of one offer: what a loop gives out in one turn,
// and another takes in in one.
const giftBatch = 250

// giving is the handover of a draining worker's connections. It belongs to the
// worker's goroutine.
type giving struct {
	on     bool
	giver  handover.Giver[gift]
	heirs  map[uint64]*wire.Conn
	keys   map[*eventloop.Service]string
	next   int // the loop that is asked next
	giveUp <-chan time.Time
	last   time.Time // when a connection was taken over
}

// gift is a connection that was offered.
type gift struct {
	lp *loop
	d  eventloop.Departure
}

// beginGiving lets the loops give out what they have. Half of the drain's time is
// for heirs to come and take it; the other half is for the clients to be told.
func (w *worker) beginGiving(timeout time.Duration) {
	w.giving.on = true
	w.giving.giveUp = time.After(timeout / 2)
	w.giving.keys = make(map[*eventloop.Service]string)
	for _, lp := range w.loops {
		for key, s := range lp.services {
			w.giving.keys[s] = key
		}
	}
}

// drainTo is called on each loop's goroutine.
func (w *worker) drainTo(lp *loop) {
	lp.DrainTo(func() {
		w.mail.post(func() {
			lp.laden = true
			w.give()
		})
	})
}

// heir takes on a channel to a worker that takes connections.
func (w *worker) heir(b wire.Heir, m wire.Message) error {
	ch, err := wire.FromFD(m.Take(0))
	if err != nil {
		return err
	}
	w.seq = max(w.seq, b.ID) // its number is one of the master's
	if w.giving.heirs == nil {
		w.giving.heirs = make(map[uint64]*wire.Conn)
	}
	w.giving.heirs[b.ID] = ch
	w.giving.giver.Join(b.ID, b.Generation)
	go w.hear(b.ID, ch)
	if w.giving.keys != nil && !w.giving.on { // an earlier heir had no room
		w.giving.on = true
		for _, lp := range w.loops {
			lp.Post(func() { w.drainTo(lp) })
		}
	}
	return nil
}

// hear passes on what an heir says, until its end.
func (w *worker) hear(id uint64, ch *wire.Conn) {
	for {
		m, err := ch.Recv()
		if _, unknown := wire.IsUnknown(err); err != nil && !unknown {
			w.mail.post(func() { w.bereave(id) })
			return
		}
		w.mail.post(func() {
			defer m.Close()
			if err := w.heard(id, m); err != nil {
				w.log.Error().Err(err).Stringer("message", m.Kind).Msg("a message from a worker was not understood")
			}
		})
	}
}

func (w *worker) heard(id uint64, m wire.Message) error {
	switch m.Kind {
	case wire.KindGrant:
		var b wire.Grant
		if err := m.Decode(&b); err != nil {
			return err
		}
		w.giving.giver.Grant(id, b.Room)
		if b.Room == 0 {
			w.log.Warn().Msg("the next generation has no room for more connections; the rest ends here")
		}
		w.give()
	case wire.KindAnswer:
		var b wire.Answer
		if err := m.Decode(&b); err != nil {
			return err
		}
		w.answered(id, b)
	case wire.KindUnknown:
		w.log.Warn().Msg("the next generation's release does not know this handover; connections end here")
		w.giveBack(w.giving.giver.Leave(id), false)
		w.stay()
	}
	return nil
}

// give asks the loops for connections as long as somebody has room for them.
func (w *worker) give() {
	if !w.giving.on || w.exit {
		return
	}
	for range w.loops {
		lp := w.loops[w.giving.next%len(w.loops)]
		w.giving.next++
		if !lp.laden || lp.asked {
			continue
		}
		id, n, ok := w.giving.giver.Pick(giftBatch)
		if !ok {
			break
		}
		lp.asked = true
		lp.Post(func() {
			ds := lp.Depart(n)
			w.mail.post(func() {
				lp.asked = false
				w.offer(lp, id, n, ds)
				w.give()
			})
		})
	}
	if w.giving.giver.Full() {
		w.stay()
	}
}

// offer sends connections to an heir.
func (w *worker) offer(lp *loop, id uint64, room int, ds []eventloop.Departure) {
	if len(ds) == 0 {
		lp.laden = false
	}
	items := make([]handover.Item, len(ds))
	gifts := make([]gift, len(ds))
	for i, d := range ds {
		items[i] = handover.Item{Key: w.giving.keys[d.Service], Parcel: d.Parcel}
		gifts[i] = gift{lp, d}
	}
	b, fds := handover.Encode(items)
	seq, ok := w.giving.giver.Offer(id, gifts, room-len(fds))
	if !ok {
		w.giveBack(gifts, true)
		return
	}
	if len(ds) == 0 {
		return
	}
	_ = failpoint.Hit("handover-offer")
	err := w.sendOffer(w.giving.heirs[id], seq, b, fds)
	switch {
	case errors.Is(err, wire.ErrGone):
		// hear tells of it too, once what the heir said last has been heard.
	case err != nil:
		w.log.Error().Err(err).Int("connections", len(ds)).Msg("connections can't be handed over; they end here")
		w.giveBack(w.giving.giver.Unsent(id, seq, min(room, len(fds))), false)
	}
	_ = failpoint.Hit("handover-offered")
}

// sendOffer sends one offer.
func (w *worker) sendOffer(ch *wire.Conn, seq uint64, b []byte, fds []int) error {
	memfd, err := wire.Memfd("reuseportd-handover", b)
	if err != nil {
		return err
	}
	defer unix.Close(memfd)
	_ = ch.SetWriteDeadline(time.Now().Add(5 * time.Second))
	return ch.Send(wire.KindOffer, wire.Offer{Seq: seq, Format: handover.Format}, append([]int{memfd}, fds...)...)
}

// answered lets go of what an heir has taken, and goes on with what it has not.
func (w *worker) answered(id uint64, b wire.Answer) {
	taken, kept := w.giving.giver.Answer(id, b.Seq, b.None, b.Refused)
	if len(kept) > 0 {
		w.log.Warn().Int("connections", len(kept)).Str("reason", b.Reason).
			Msg("connections were not taken over; they end here")
	}
	_ = failpoint.Hit("handover-answered")
	if len(taken) > 0 {
		w.giving.last = time.Now()
	}
	w.each(taken, func(g *gift) { g.lp.Departed(&g.d) })
	w.giveBack(kept, false)
}

// bereave goes on with what an heir that has died had not answered for.
func (w *worker) bereave(id uint64) {
	back := w.giving.giver.Leave(id)
	if ch := w.giving.heirs[id]; ch != nil {
		_ = ch.Close()
		delete(w.giving.heirs, id)
	}
	w.giveBack(back, true)
	w.give()
}

func (w *worker) giveBack(gifts []gift, again bool) {
	w.each(gifts, func(g *gift) { g.lp.Return(&g.d, again) })
}

// each calls f for every gift on its loop's goroutine.
func (w *worker) each(gifts []gift, f func(*gift)) {
	for _, lp := range w.loops {
		var own []*gift
		for i := range gifts {
			if gifts[i].lp == lp {
				own = append(own, &gifts[i])
			}
		}
		if len(own) > 0 {
			lp.Post(func() {
				for _, g := range own {
					f(g)
				}
			})
		}
	}
}

// stay ends the handover: what is here still ends here, each connection with its
// next answer. What was offered is answered for all the same.
func (w *worker) stay() {
	if !w.giving.on {
		return
	}
	w.giving.on, w.giving.giveUp = false, nil
	for _, lp := range w.loops {
		lp.Post(lp.Stay)
	}
}
