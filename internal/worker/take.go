package worker

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"reuseportd/internal/eventloop"
	"reuseportd/internal/failpoint"
	"reuseportd/internal/handover"
	"reuseportd/internal/wire"
)

// takeWindow bounds the descriptors that one giver may have under way: one offer that is
// being taken, and the next. A larger window would make connections wait for all before
// them, and the busiest ones come last.
const takeWindow = 2 * giftBatch

// ward is a loop that gives this one its connections.
type ward struct {
	port    *wire.Port
	granted int // descriptors that it may send
}

// ward registers a channel to a loop whose connections are to be taken.
func (lp *loop) ward(port *wire.Port) error {
	wd := &ward{port: port}
	lp.wards = append(lp.wards, wd)
	if err := lp.Watch(port.FD(), func() { lp.take(wd) }); err != nil {
		lp.endWard(wd)
		return err
	}
	lp.grant(wd, takeWindow)
	return nil
}

// take takes one message of a ward.
func (lp *loop) take(wd *ward) {
	m, err := wd.port.Recv()
	unknown, isUnknown := wire.IsUnknown(err)
	switch {
	case errors.Is(err, wire.ErrWouldBlock):
	case isUnknown:
		_ = wd.port.Send(wire.KindUnknown, unknown)
	case errors.Is(err, wire.ErrTruncated):
		// The offer's number can't be read. The answer is for the oldest offer that has none.
		_ = wd.port.Send(wire.KindAnswer, wire.Answer{None: true, Reason: err.Error()})
		_ = wd.port.Send(wire.KindGrant, wire.Grant{Room: 0})
	case err != nil:
		lp.endWard(wd)
	case m.Kind == wire.KindOffer:
		lp.takeOffer(wd, m)
	default:
		m.Close()
	}
}

// endWard closes a channel. The giver, if it lives, goes on with what it has offered and
// got no answer for.
func (lp *loop) endWard(wd *ward) {
	lp.w.ungrant(wd, wd.granted)
	lp.Unwatch(wd.port.FD())
	wd.port.Close()
	lp.wards = slices.DeleteFunc(lp.wards, func(o *ward) bool { return o == wd })
}

// endWards closes all channels: from here on the loop takes nothing.
func (lp *loop) endWards() {
	for len(lp.wards) > 0 {
		lp.endWard(lp.wards[0])
	}
}

// takeOffer is the taker's side of the rule: make the connections, answer, and only then
// begin to read.
func (lp *loop) takeOffer(wd *ward, m wire.Message) {
	used := len(m.FDs) - 1
	var b wire.Offer
	var items []handover.Item
	err := m.Decode(&b)
	if err == nil {
		items, err = unpack(b, m)
	}
	if err == nil {
		err = lp.w.beyond(wd, used)
	}
	answer := wire.Answer{Seq: b.Seq}
	if err != nil {
		m.Close()
		lp.warn("an offer of connections is refused whole", 0, err.Error())
		answer.None, answer.Reason = true, err.Error()
	}
	var conns []*eventloop.Conn
	if err == nil {
		conns = lp.arriveAll(items, &answer)
	}
	_ = failpoint.Hit("handover-taken")
	// If the giver has died, the connections are ours: nobody else can serve them. If it
	// lives and can't be told, it goes on with them when the channel ends.
	if err := wd.port.Send(wire.KindAnswer, answer); err != nil && !errors.Is(err, wire.ErrGone) {
		lp.endWard(wd)
		for _, c := range conns {
			lp.Discard(c)
		}
		return
	}
	_ = failpoint.Hit("handover-begin")
	for _, c := range conns {
		lp.Begin(c)
	}
	lp.w.ungrant(wd, used)
	lp.grant(wd, used)
}

// unpack reads an offer. Unless it returns an error, the items own the descriptors.
func unpack(b wire.Offer, m wire.Message) ([]handover.Item, error) {
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
	if err := handover.DecodeLives(b.Lives, items); err != nil {
		return nil, err
	}
	_ = unix.Close(m.Take(0))
	return items, nil
}

// arriveAll makes connections from items, and records in the answer which are refused.
func (lp *loop) arriveAll(items []handover.Item, answer *wire.Answer) []*eventloop.Conn {
	conns := make([]*eventloop.Conn, 0, len(items))
	for i := range items {
		c, err := lp.arrive(&items[i])
		if err == nil {
			conns = append(conns, c)
			continue
		}
		for _, fd := range items[i].FDs() {
			_ = unix.Close(fd)
		}
		if !errors.Is(err, errNoUpstream) { // otherwise nobody misses it
			answer.Refused = append(answer.Refused, i)
			answer.Reason = err.Error()
		}
	}
	return conns
}

// beyond grants descriptors that came in excess of what was granted, or refuses the offer. A connection
// with its server's and its files may need a few more than was granted. But a giver that an attacker
// controls could send without end, and use up the descriptors that the service keeps for itself.
func (w *worker) beyond(wd *ward, used int) error {
	over := used - wd.granted
	if over <= 0 {
		return nil
	}
	if n := w.budget.Promise(over); n < over {
		w.budget.Promise(-n)
		return fmt.Errorf("%d descriptors come, %d were granted, and there is no room for more", used, wd.granted)
	}
	wd.granted += over
	w.granted.Add(int64(over))
	return nil
}

// errNoUpstream is why an idle connection to a server is refused.
var errNoUpstream = errors.New("the new configuration has no such upstream")

func (lp *loop) arrive(it *handover.Item) (*eventloop.Conn, error) {
	s := lp.services[it.Key]
	if s == nil && strings.HasPrefix(it.Key, upstreamKey) {
		return nil, errNoUpstream
	}
	if s == nil {
		return nil, fmt.Errorf("the new configuration has no listener at %s", it.Key)
	}
	return lp.Arrive(s, &it.Parcel)
}

// grant lets a ward offer up to n descriptors, as far as there is room.
func (lp *loop) grant(wd *ward, n int) {
	n, why := lp.w.room(n)
	if n > 0 {
		wd.granted += n
		lp.w.granted.Add(int64(n))
		if wd.port.Send(wire.KindGrant, wire.Grant{Room: n}) != nil {
			lp.w.ungrant(wd, n)
		}
	}
	if wd.granted == 0 {
		_ = wd.port.Send(wire.KindGrant, wire.Grant{Room: 0, Why: why})
	}
}

// ungrant reduces by n what a ward was granted: those descriptors have come, or won't come.
func (w *worker) ungrant(wd *ward, n int) {
	n = min(n, wd.granted)
	wd.granted -= n
	w.granted.Add(int64(-n))
	w.budget.Promise(-n)
}

// room promises up to n more descriptors, and returns why it isn't more. Any of the worker's loops
// may call it.
func (w *worker) room(n int) (promised int, why string) {
	if limit := w.conf.MaxConnections; limit > 0 {
		clients := 0
		for i := range w.loops {
			now := w.region.Read(i)
			clients += int(now.Open)
		}
		if left := limit - int(w.granted.Load()) - clients; left < n {
			n, why = max(left, 0), fmt.Sprintf("the next generation has reached max_connections (%d in each worker)", limit)
		}
	}
	if promised = w.budget.Promise(n); promised < n {
		why = fmt.Sprintf("the next generation has no descriptors left (its workers have %d for connections)", w.budget.Room())
	}
	return promised, why
}

// capacity is how many clients the worker has room for.
func (w *worker) capacity() int {
	if limit := w.conf.MaxConnections; limit > 0 {
		return min(limit, w.budget.Room())
	}
	return w.budget.Room()
}
