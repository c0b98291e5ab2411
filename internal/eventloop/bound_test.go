package eventloop_test

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"reuseportd/internal/eventloop"
)

// seats is a bound of all clients together, which checks that each seat is given back once.
type seats struct {
	t     *testing.T
	most  int
	taken map[uint16]bool
	away  int
}

func (s *seats) Enter(a netip.Addr) (uint16, bool, bool) {
	if len(s.taken) >= s.most {
		return 0, false, s.away > 0
	}
	return s.Join(a), true, false
}

func (s *seats) Join(a netip.Addr) uint16 {
	if a.String() != "127.0.0.1" {
		s.t.Errorf("client %v", a)
	}
	for i := uint16(1); ; i++ {
		if !s.taken[i] {
			s.taken[i] = true
			return i
		}
	}
}

func (s *seats) Leave(seat uint16) {
	if !s.taken[seat] {
		s.t.Errorf("seat %d is given back, and nobody has it", seat)
	}
	delete(s.taken, seat)
}

func (s *seats) Depart() { s.away++ }
func (s *seats) Settle() { s.away-- }

// boundRelay is two loops whose services let in that many. With refuse the second takes nothing.
func boundRelay(t *testing.T, most int, refuse bool) (*relay, map[*eventloop.Loop]*seats) {
	all := make(map[*eventloop.Loop]*seats)
	o := config{handler: func(l *eventloop.Loop) eventloop.Handler {
		all[l] = &seats{t: t, most: most, taken: make(map[uint16]bool)}
		m := &mover{calls: calls{received: echoes}}
		if refuse && len(all) == 2 {
			m.thaw = func(*eventloop.Conn, []int) error { return errors.New("as ordered") }
		}
		return m
	}}
	r := newRelay(t, o)
	for _, s := range []*server{r.from, r.to} {
		s.do(func() { s.service.SetBound(all[s.Loop]) })
	}
	return r, all
}

// wantReset connects and wants to be refused, which may come before connect(2) is over.
func wantReset(t *testing.T, s *server) {
	t.Helper()
	c, err := net.Dial("tcp", s.addr)
	if err == nil {
		defer c.Close()
		_ = c.SetReadDeadline(time.Now().Add(limit))
		_, err = c.Read(make([]byte, 1))
	}
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("one too many sees %v", err)
	}
}

func TestBoundRefuses(t *testing.T) {
	r, all := boundRelay(t, 2, false)
	var let []*tcp
	for range 2 {
		c := r.from.dial()
		ping(t, c)
		let = append(let, c)
	}
	wantReset(t, r.from)
	if n := r.from.count(); n.Accepted != 3 || n.Open != 2 || n.Closed != 1 || n.ClientRefused != 1 || n.ClientUncounted != 0 {
		t.Errorf("counted %+v", n)
	}
	let[0].Close()
	r.from.until("one has left", func() bool { return len(all[r.from.Loop].taken) == 1 })
	ping(t, r.from.dial())
	ping(t, let[1])
}

// Who would be one too many by a count that may be too high is refused, or let in, when it is known; or
// with the loop's end.
func TestBoundInDoubt(t *testing.T) {
	for _, end := range []string{"let in", "refused", "cut"} {
		t.Run(end, func(t *testing.T) {
			r, all := boundRelay(t, 1, false)
			mine := all[r.from.Loop]
			r.from.do(func() { mine.away, mine.taken[9] = 1, true })
			c := r.from.dial()
			r.from.until("it is in doubt", func() bool { return r.from.Open() == 1 })
			if n := r.from.count(); n.Accepted != 1 || n.Open != 0 || n.Closed != 0 {
				t.Errorf("counted %+v", n)
			}
			r.from.do(func() {
				switch end {
				case "let in":
					delete(mine.taken, 9)
				case "cut":
					r.from.Cut()
				}
				mine.away = 0
			})
			if end == "let in" {
				ping(t, c)
				return
			}
			if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("sees %v", err)
			}
			if n := r.from.count(); n.Closed != 1 || n.ClientRefused != 1 || r.from.Open() != 0 {
				t.Errorf("counted %+v", n)
			}
		})
	}
}

// A doubt that never ends is a refusal after a while.
func TestBoundInDoubtForEver(t *testing.T) {
	r, all := boundRelay(t, 0, false)
	r.from.do(func() { all[r.from.Loop].away = 1 })
	wantReset(t, r.from)
}

// A seat goes along with a connection, whatever its new loop's sum, and one that comes to nothing
// leaves none.
func TestBoundMoves(t *testing.T) {
	count := func(s *server, all map[*eventloop.Loop]*seats) (n int) {
		s.do(func() { n = len(all[s.Loop].taken) })
		return n
	}
	want := func(t *testing.T, r *relay, all map[*eventloop.Loop]*seats, from, to int) {
		t.Helper()
		if a, b := count(r.from, all), count(r.to, all); a != from || b != to {
			t.Errorf("%d and %d are counted, want %d and %d", a, b, from, to)
		}
	}
	still := func(t *testing.T, r *relay, all map[*eventloop.Loop]*seats) {
		t.Helper()
		for _, s := range []*server{r.from, r.to} {
			s.do(func() {
				if n := all[s.Loop].away; n != 0 {
					t.Errorf("%d connections are on their way for ever", n)
				}
			})
		}
	}
	t.Run("taken", func(t *testing.T) {
		r, all := boundRelay(t, 1, false)
		ping(t, r.to.dial())
		c := r.from.dial()
		ping(t, c)
		r.move()
		want(t, r, all, 0, 2)
		ping(t, c)
		still(t, r, all)
	})
	t.Run("discarded", func(t *testing.T) {
		r, all := boundRelay(t, 1, false)
		c := r.from.dial()
		ping(t, c)
		r.drain()
		d := r.from.depart(1)[0]
		conn, err := r.to.arrive(&d)
		if err != nil {
			t.Fatal(err)
		}
		want(t, r, all, 1, 1)
		r.to.do(func() { r.to.Discard(conn) })
		r.from.do(func() { r.from.Return(&d, false) })
		want(t, r, all, 1, 0)
		ping(t, c)
		still(t, r, all)
	})
	t.Run("refused", func(t *testing.T) {
		r, all := boundRelay(t, 1, true)
		c := r.from.dial()
		ping(t, c)
		r.drain()
		d := r.from.depart(1)[0]
		if _, err := r.to.arrive(&d); err == nil {
			t.Error("taken")
		}
		want(t, r, all, 1, 0)
		r.from.do(func() { r.from.Return(&d, false) })
		_ = c.CloseWrite()
		_ = c.SetReadDeadline(time.Now().Add(limit))
		if _, err := c.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("at the end: %v", err)
		}
		r.from.until("it has left", func() bool { return len(all[r.from.Loop].taken) == 0 })
		still(t, r, all)
	})
}
