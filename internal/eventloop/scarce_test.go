package eventloop

import (
	"math"
	"testing"
	"time"
)

// paced is a handler whose peers may have a rate.
type paced struct{ noted }

func (*paced) Passed(*Conn)  {}
func (*paced) TooSlow(*Conn) {}

// While descriptors or memory are short, peers are to keep to a rate that nobody has asked for. It begins
// with its grace each time.
func TestRateWhileScarce(t *testing.T) {
	l, cs := still(t, &paced{}, 1)
	c := cs[0]
	var p Pace
	pass := func(d time.Duration) bool { l.now += int64(d); return c.KeepsUp(&p, 1) }
	l.noteScarcity(10, math.MaxInt)
	for range 2 {
		if !pass(time.Hour) {
			t.Error("a slow peer is ended though nothing is short")
		}
	}
	for range 2 {
		l.noteScarcity(95, 100)
		if !pass(time.Second) || !pass(4*time.Second) {
			t.Error("it has no grace")
		}
		if pass(2 * time.Second) {
			t.Error("a slow peer goes on while memory is short")
		}
		l.noteScarcity(10, 100)
		if !l.scarce.on {
			t.Error("it ends at once")
		}
		l.now += scarceFor + 1
		l.noteScarcity(10, 100)
		if !pass(time.Hour) {
			t.Error("a slow peer is ended after it")
		}
	}

	l.budget = new(Budget)
	l.budget.set(1000)
	l.noteScarcity(0, math.MaxInt)
	if l.scarce.on {
		t.Error("with all descriptors free it is on")
	}
	l.budget.take(l.budget.free(forClients))
	l.noteScarcity(0, math.MaxInt)
	if !l.scarce.on {
		t.Error("with none left for clients it is off")
	}
	tcp, cs := still(t, &noted{}, 1)
	tcp.scarce.on = true
	if cs[0].svc.rate() != 0 {
		t.Error("a service without a pace has one")
	}
}
