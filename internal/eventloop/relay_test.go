package eventloop_test

import (
	"errors"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"reuseportd/internal/eventloop"
)

// mover is a handler whose connections can move. State is a string or nil.
type mover struct {
	calls
	kind   string
	freeze func(*eventloop.Conn) []int
	thaw   func(*eventloop.Conn, []int) error
}

func (m *mover) Kind(*eventloop.Conn) string { return "test" + m.kind }

func (m *mover) Freeze(c *eventloop.Conn, b []byte) ([]byte, []int) {
	if s, ok := c.State.(string); ok {
		b = append(b, s...)
	}
	if m.freeze == nil {
		return b, nil
	}
	return b, m.freeze(c)
}

func (m *mover) Thaw(c *eventloop.Conn, kind string, state []byte, fds []int) error {
	if kind != m.Kind(c) {
		return errors.New("unknown kind " + kind)
	}
	if len(state) > 0 {
		c.State = string(state)
	}
	if m.thaw == nil {
		return nil
	}
	return m.thaw(c, fds)
}

// relay is a loop that drains and one that takes its connections, joined as two
// processes are: what passes is a copy, and its descriptors are duplicates.
type relay struct {
	t        *testing.T
	from, to *server
}

// newRelay makes both loops with the same handler, unless next makes another one.
func newRelay(t *testing.T, o config, next ...config) *relay {
	t.Helper()
	r := &relay{t: t, from: serve(t, o)}
	if len(next) > 0 {
		o = next[0]
	}
	r.to = serve(t, o)
	t.Cleanup(func() { // else what was left away or blocked is never closed
		r.from.do(r.from.Cut)
		r.to.do(r.to.Cut)
		r.from.do(r.from.DropPipes) // the other loop's check would see them
	})
	return r
}

// moves makes a relay of one handler for all connections of both loops.
func moves(t *testing.T, f func(l *eventloop.Loop) *mover) *relay {
	t.Helper()
	return newRelay(t, config{handler: func(l *eventloop.Loop) eventloop.Handler { return f(l) }})
}

// drain has the first loop give out its connections.
func (r *relay) drain() {
	r.t.Helper()
	r.from.do(func() { r.from.DrainTo(nil) })
}

// depart takes what Depart gives out, up to n descriptors' worth.
func (s *server) depart(n int) (ds []eventloop.Departure) {
	s.t.Helper()
	s.do(func() { ds = s.Depart(n) })
	s.do(func() {}) // all invariants hold
	return ds
}

// carry is what a channel between two processes does to a parcel.
func carry(t testing.TB, p eventloop.Parcel) eventloop.Parcel {
	t.Helper()
	again := func(fd int) int {
		if fd < 0 {
			return fd
		}
		fd, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		return fd
	}
	p.In, p.Out, p.Tail, p.State = slices.Clone(p.In), slices.Clone(p.Out), slices.Clone(p.Tail), slices.Clone(p.State)
	p.Keys, p.Cipher, p.Opened, p.Sealed = slices.Clone(p.Keys), slices.Clone(p.Cipher), slices.Clone(p.Opened), slices.Clone(p.Sealed)
	p.FD, p.File, p.Files = again(p.FD), again(p.File), slices.Clone(p.Files)
	for i := range p.Files {
		p.Files[i] = again(p.Files[i])
	}
	if p.Partner != nil {
		partner := carry(t, *p.Partner)
		p.Partner = &partner
	}
	return p
}

// arrive is the taker's half up to its answer.
func (s *server) arrive(d *eventloop.Departure) (c *eventloop.Conn, err error) {
	s.t.Helper()
	p := carry(s.t, d.Parcel)
	s.do(func() { c, err = s.Arrive(s.service, &p) })
	if err != nil {
		for _, fd := range p.FDs() {
			_ = unix.Close(fd)
		}
	}
	s.do(func() {})
	return c, err
}

// give hands over what Depart has given out: made, answered, begun.
func (s *server) give(to *server, ds []eventloop.Departure) (conns []*eventloop.Conn) {
	s.t.Helper()
	parcels := make([]eventloop.Parcel, len(ds))
	for i := range ds {
		parcels[i] = carry(s.t, ds[i].Parcel)
	}
	to.do(func() {
		for i := range parcels {
			c, err := to.Arrive(to.service, &parcels[i])
			if err != nil {
				s.t.Errorf("arrive: %v", err)
				return
			}
			conns = append(conns, c)
		}
	})
	if len(conns) < len(ds) {
		s.t.FailNow()
	}
	s.do(func() {
		for i := range ds {
			s.Departed(&ds[i])
		}
	})
	to.do(func() {
		for _, c := range conns {
			to.Begin(c)
		}
	})
	s.do(func() {}) // all invariants hold
	to.do(func() {})
	return conns
}

// pass hands over all that Depart gives out.
func (s *server) pass(to *server) (conns []*eventloop.Conn) {
	s.t.Helper()
	return s.give(to, s.depart(1<<20))
}

// move drains the first loop of its only connection.
func (r *relay) move() *eventloop.Conn {
	r.t.Helper()
	r.drain()
	conns := r.from.pass(r.to)
	if len(conns) != 1 {
		r.t.Fatalf("%d connections moved, want 1", len(conns))
	}
	if n, m := r.from.count(), r.to.count(); n.Open != 0 || n.HandedOver != 1 || n.Closed != 0 || n.Finished != 0 || m.TakenOver != 1 {
		r.t.Fatalf("counted %+v, %+v", n, m)
	}
	return conns[0]
}
