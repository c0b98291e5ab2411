package worker

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"reuseportd/internal/eventloop"
	"reuseportd/internal/failpoint"
	"reuseportd/internal/handover"
	"reuseportd/internal/wire"
)

const (
	// takeWindow bounds the descriptors that one giver may have on the way.
	takeWindow = 1000
	// spareFDs are kept back of the descriptor limit, for files and new connections.
	spareFDs = 256
)

// taking is the other end of giving.
type taking struct {
	granted int // descriptors that givers may send
	next    int // the loop that takes the next offer
	busy    int // offers that loops are taking: the worker is not empty
}

// ward takes on a channel to a worker whose connections are to be taken.
func (w *worker) ward(m wire.Message) error {
	ch, err := wire.FromFD(m.Take(0))
	if err != nil {
		return err
	}
	w.grant(ch, takeWindow)
	go w.takeAll(ch)
	return nil
}

// takeAll takes one offer after another, until the giver has gone.
func (w *worker) takeAll(ch *wire.Conn) {
	defer ch.Close()
	for {
		m, err := ch.Recv()
		unknown, isUnknown := wire.IsUnknown(err)
		switch {
		case isUnknown:
			_ = ch.Send(wire.KindUnknown, unknown)
			continue
		case errors.Is(err, wire.ErrTruncated):
			// Which offer it was can't be read: the oldest that has no answer.
			w.refuse(ch, 0, err)
			_ = ch.Send(wire.KindGrant, wire.Grant{Room: 0})
			continue
		case err != nil:
			return
		case m.Kind != wire.KindOffer:
			m.Close()
			continue
		}
		var b wire.Offer
		if err := m.Decode(&b); err != nil {
			m.Close()
			return // the giver takes all back
		}
		done := make(chan struct{})
		w.mail.post(func() { w.take(ch, b, m, func() { close(done) }) })
		<-done
	}
}

func (w *worker) refuse(ch *wire.Conn, seq uint64, err error) {
	_ = ch.SetWriteDeadline(time.Now().Add(5 * time.Second))
	_ = ch.Send(wire.KindAnswer, wire.Answer{Seq: seq, None: true, Reason: err.Error()})
}

// take makes connections of an offer on one of the loops, and calls done there.
func (w *worker) take(ch *wire.Conn, b wire.Offer, m wire.Message, done func()) {
	used := len(m.FDs) - 1
	items, err := w.unpack(b, m)
	if err != nil {
		m.Close()
		w.log.Error().Err(err).Msg("an offer of connections is refused whole")
		w.refuse(ch, b.Seq, err)
		w.regrant(ch, used)
		done()
		return
	}
	lp := w.loops[w.taking.next%len(w.loops)]
	w.taking.next++
	w.taking.busy++
	lp.Post(func() {
		defer done()
		w.takeOn(lp, ch, b.Seq, items)
		w.mail.post(func() {
			w.taking.busy--
			w.regrant(ch, used)
			w.wakeIfEmpty() // it may have asked meanwhile
		})
	})
}

// unpack reads an offer, whose descriptors are the items' if there is no error.
func (w *worker) unpack(b wire.Offer, m wire.Message) ([]handover.Item, error) {
	if len(m.FDs) == 0 {
		return nil, errors.New("an offer without memory")
	}
	text, err := wire.ReadMemfd(m.FDs[0])
	if err != nil {
		return nil, err
	}
	items, err := handover.Decode(b.Format, text, m.FDs[1:])
	if err != nil {
		return nil, err
	}
	_ = unix.Close(m.Take(0))
	return items, nil
}

// takeOn is the taker's side of the rule, on the loop's goroutine: make, answer,
// and only then begin to read.
func (w *worker) takeOn(lp *loop, ch *wire.Conn, seq uint64, items []handover.Item) {
	answer := wire.Answer{Seq: seq}
	var conns []*eventloop.Conn
	for i := range items {
		c, err := lp.arrive(&items[i])
		if err != nil {
			answer.Refused = append(answer.Refused, i)
			answer.Reason = err.Error()
			for _, fd := range items[i].FDs() {
				_ = unix.Close(fd)
			}
			continue
		}
		conns = append(conns, c)
	}
	_ = failpoint.Hit("handover-taken")
	_ = ch.SetWriteDeadline(time.Now().Add(5 * time.Second))
	// A giver that has died has given: there is nobody else to serve them. One that
	// lives and can't be told goes on with them when the channel ends.
	if err := ch.Send(wire.KindAnswer, answer); err != nil && !errors.Is(err, wire.ErrGone) {
		_ = ch.Close()
		for _, c := range conns {
			c.Close()
		}
		return
	}
	_ = failpoint.Hit("handover-begin")
	for _, c := range conns {
		lp.Begin(c)
	}
}

func (lp *loop) arrive(it *handover.Item) (*eventloop.Conn, error) {
	s := lp.services[it.Key]
	if s == nil {
		return nil, fmt.Errorf("the new configuration has no listener at %s", it.Key)
	}
	return lp.Arrive(s, &it.Parcel)
}

// regrant lets a giver replace what was taken.
func (w *worker) regrant(ch *wire.Conn, used int) {
	w.taking.granted -= used
	w.grant(ch, used)
}

// grant lets a giver offer up to n descriptors, as far as there is room.
func (w *worker) grant(ch *wire.Conn, n int) {
	n = max(0, min(n, w.room()))
	w.taking.granted += n
	_ = ch.SetWriteDeadline(time.Now().Add(5 * time.Second))
	_ = ch.Send(wire.KindGrant, wire.Grant{Room: n})
}

// room is how many descriptors more the worker lets itself be given.
func (w *worker) room() int {
	open := w.taking.granted
	for i := range w.loops {
		open += int(w.region.Read(i).Open)
	}
	room := w.nofile - spareFDs - open
	if limit := w.conf.MaxConnections; limit > 0 {
		room = min(room, limit-open)
	}
	return room
}
