package eventloop

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// moved takes a connection of a still loop away and arms it as one that has left
// of its time.
func moved(l *Loop, c *Conn, id Class, left int64) {
	l.disarm(c)
	c.want = id
	deadline := int64(0)
	if left > 0 {
		deadline = l.now + left
	}
	l.armUntil(c, id, deadline)
}

// Connections that came with part of their time gone are due when that is over,
// but never later than all of it here, among those that the loop armed itself.
func TestMovedTimersAgainstModel(t *testing.T) {
	for seed := range uint64(6) {
		r := rand.New(rand.NewPCG(seed, 0))
		h := &noted{}
		l, cs := still(t, h, 150)
		var classes []Class
		for range 5 {
			classes = append(classes, l.Class(time.Duration(1+r.IntN(1000))))
		}
		model := make(map[int32]int64) // deadlines
		for range 400 {
			if r.IntN(3) > 0 {
				c, id := cs[r.IntN(len(cs))], classes[r.IntN(len(classes))]
				wait := l.classes[id].wait
				switch r.IntN(3) {
				case 0:
					c.SetTimeout(id)
					model[c.fd] = l.now + wait
				case 1:
					left := int64(1 + r.IntN(1500))
					moved(l, c, id, left)
					model[c.fd] = l.now + min(left, wait)
				case 2: // came without a timeout
					moved(l, c, id, 0)
					model[c.fd] = l.now + wait
				}
				if c.deadline != model[c.fd] {
					t.Fatalf("seed %d: due at %d, want %d", seed, c.deadline, model[c.fd])
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

// Those that moved are due in the order of their deadlines, whatever order they
// came in, and so are they among each other with those that did not.
func TestMovedTimersInOrder(t *testing.T) {
	h := &noted{}
	l, cs := still(t, h, 6)
	id := l.Class(100)
	for i, left := range []int64{50, 20, 70, 20} {
		moved(l, cs[i], id, left)
	}
	cs[4].SetTimeout(id)
	moved(l, cs[5], id, 1000) // the other loop's class was longer
	var order []int32
	for l.now = 0; l.now <= 100; l.now += 10 {
		expireAll(l)
	}
	for _, fd := range h.due {
		order = append(order, fd-cs[0].fd)
	}
	if !slices.Equal(order, []int32{1, 3, 0, 2, 4, 5}) {
		t.Errorf("due in the order %v", order)
	}
}

// With no class left for those that moved, they get their whole time.
func TestMovedTimersWithoutClass(t *testing.T) {
	l, cs := still(t, &noted{}, 2)
	first := l.Class(time.Hour)
	for len(l.classes) < 255 {
		l.Class(time.Duration(len(l.classes)) * time.Minute * 100)
	}
	moved(l, cs[0], first, 10)
	if cs[0].deadline != 10 || len(l.classes) != 256 {
		t.Errorf("due at %d, with %d classes", cs[0].deadline, len(l.classes))
	}
	second := cs[1].svc.loop.lingerClass
	moved(l, cs[1], second, 10)
	if cs[1].class != second || cs[1].deadline != int64(lingerTimeout) {
		t.Errorf("in class %d, due at %d", cs[1].class, cs[1].deadline)
	}
	if l.Class(time.Hour) != first {
		t.Error("a class of the same duration is another one now")
	}
	if err := l.check(); err != nil {
		t.Error(err)
	}
}
