package eventloop

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// noted is a handler that notes which connections timed out.
type noted struct {
	due  []int32
	then func(*Conn)
}

func (*noted) Opened(*Conn)                   {}
func (*noted) Received(_ *Conn, p []byte) int { return len(p) }
func (*noted) Flushed(*Conn)                  {}
func (*noted) Ended(*Conn)                    {}
func (*noted) Closed(*Conn)                   {}

func (h *noted) TimedOut(c *Conn) {
	h.due = append(h.due, c.fd)
	if h.then != nil {
		h.then(c)
	}
}

// still makes a loop that doesn't run, with connections that have no socket.
func still(t testing.TB, h Handler, conns int) (*Loop, []*Conn) {
	t.Helper()
	l, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = unix.Close(int(l.epfd))
		_ = unix.Close(int(l.wakefd))
	})
	s := l.NewService(h, 0)
	cs := make([]*Conn, conns)
	for i := range cs {
		cs[i] = l.open(1<<20+int32(i), s, serving)
		cs[i].flags = serving | registered
	}
	return l, cs
}

// Every timeout fires once, when it is due, in the order of the deadlines of its
// class; what was cancelled or armed anew doesn't fire at its old time.
func TestTimersAgainstModel(t *testing.T) {
	for seed := range uint64(10) {
		r := rand.New(rand.NewPCG(seed, 0))
		h := &noted{}
		l, cs := still(t, h, 150)
		classes := []Class{0}
		for range 5 {
			classes = append(classes, l.Class(time.Duration(1+r.IntN(1000))))
		}
		model := make(map[int32]int64) // deadlines
		h.then = func(c *Conn) {
			if r.IntN(3) == 0 { // from within the walk over the lists
				id := classes[1+r.IntN(len(classes)-1)]
				c.SetTimeout(id)
				model[c.fd] = l.now + l.classes[id].wait
			}
		}
		for range 300 {
			if r.IntN(2) == 0 {
				c, id := cs[r.IntN(len(cs))], classes[r.IntN(len(classes))]
				c.SetTimeout(id)
				if delete(model, c.fd); id != 0 {
					model[c.fd] = l.now + l.classes[id].wait
				}
				continue
			}
			l.now += int64(r.IntN(100))
			var want []int32
			for fd, deadline := range model {
				if deadline <= l.now {
					want = append(want, fd)
					delete(model, fd)
				}
			}
			nearest := l.nearest()
			h.due = nil
			expireAll(l)
			got := slices.Clone(h.due)
			slices.Sort(got)
			slices.Sort(want)
			if !slices.Equal(got, want) {
				t.Fatalf("seed %d: due are %v, want %v", seed, got, want)
			}
			if len(want) > 0 && nearest != 0 {
				t.Fatalf("seed %d: would have waited %d ms", seed, nearest)
			}
			if err := l.check(); err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
		}
	}
}

func TestNearest(t *testing.T) {
	l, cs := still(t, &noted{}, 3)
	if n := l.nearest(); n != -1 {
		t.Errorf("with nothing armed: %d", n)
	}
	for i, tt := range []struct {
		wait time.Duration
		want int
	}{
		{math.MaxInt64, longestWait},
		{60 * 24 * time.Hour, longestWait},
		{1500 * time.Microsecond, 2},
	} {
		cs[i].SetTimeout(l.Class(tt.wait))
		if n := l.nearest(); n != tt.want {
			t.Errorf("with %v: %d ms, want %d", tt.wait, n, tt.want)
		}
		if err := l.check(); err != nil {
			t.Error(err)
		}
	}
	l.now = int64(time.Second)
	if n := l.nearest(); n != 0 {
		t.Errorf("when overdue: %d", n)
	}
}

func TestClasses(t *testing.T) {
	l, _ := still(t, &noted{}, 0)
	if a, b := l.Class(time.Second), l.Class(time.Second); a != b || a == 0 {
		t.Errorf("one duration has classes %d and %d", a, b)
	}
	if l.Class(0) != 0 || l.Class(-1) != 0 {
		t.Error("no timeout has a class")
	}
	if l.Class(math.MaxInt64) != l.Class(forever) {
		t.Error("for ever has two classes")
	}
	defer func() {
		if recover() == nil {
			t.Error("took more classes than a byte can name")
		}
	}()
	for i := range 300 {
		if id := l.Class(time.Duration(i+1) * time.Minute); l.classes[id].wait != int64(time.Duration(i+1)*time.Minute) {
			t.Errorf("class %d is of another duration", id)
		}
	}
}

// The generation wraps round below the bit that marks what is no connection.
func TestGenerationWraps(t *testing.T) {
	l, cs := still(t, &noted{}, 1)
	c := cs[0]
	l.live, l.count.Open = 0, 0
	c.flags, c.gen = 0, special-1
	if l.table.find(c.fd, special-1) != nil {
		t.Error("a closed connection was found")
	}
	again := l.open(c.fd, c.svc, serving)
	if again != c || again.gen != 0 || l.table.find(c.fd, 0) != c || l.table.find(c.fd, special-1) != nil {
		t.Errorf("generation %d follows the last", again.gen)
	}
	for _, fd := range []int32{0, 1<<20 + 1, 1 << 30} {
		if l.table.find(fd, 0) != nil {
			t.Errorf("descriptor %d was found", fd)
		}
	}
}

// Buffers that are kept are bounded in number and in bytes, and lent empty.
func TestBuffers(t *testing.T) {
	b := buffers{holding: new(holding)}
	for _, n := range []int{1, 1024, 1025, 16 << 10, 1 << 20, 1<<20 + 1} {
		var lent [][]byte
		for range 70 {
			p := b.get(n)
			lent = append(lent, p)
			if len(p) != 0 || cap(p) < n {
				t.Fatalf("asked for %d, got length %d, capacity %d", n, len(p), cap(p))
			}
		}
		for i, p := range lent {
			b.put(p[:min(i, n)])
		}
		if b.lent != 0 {
			t.Fatalf("%d bytes are lent when all are back", b.lent)
		}
		for range 70 {
			b.put(make([]byte, n, n+1))
			b.put(make([]byte, 0, n))
		}
		b.lent = 0 // those were not lent
	}
	kept := 0
	for i, spare := range b.idle {
		kept += spare.Len() * bufferSize(i)
		if spare.Len() > keepBuffers {
			t.Errorf("keeps %d of %d bytes", spare.Len(), bufferSize(i))
		}
	}
	if kept != b.kept || kept > keepBytes {
		t.Errorf("keeps %d bytes, counts %d", kept, b.kept)
	}
	none := buffers{holding: new(holding)}
	for range 100 {
		none.put(make([]byte, 5, 1<<10))
		if p := none.get(1 << 10); len(p) != 0 || cap(p) != 1<<10 {
			t.Errorf("lent length %d", len(p))
		}
	}
}

// expireAll serves all timeouts that are due, in as many turns as that takes.
func expireAll(l *Loop) {
	for l.expire(); l.nearest() == 0; l.expire() {
	}
}
