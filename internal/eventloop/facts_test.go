package eventloop

import (
	"math/bits"
	"testing"
)

// What a connection's state is on the wire, as the first release wrote it: each number stays.
func TestFactsOnTheWire(t *testing.T) {
	golden := []struct {
		state flag
		wire  uint32
	}{
		{serving, 0},
		{serving | readable, 1 << 1},
		{serving | hangup, 1 << 2},
		{serving | gone, 1 << 3},
		{serving | watchOut, 1 << 5},
		{serving | paused, 1 << 6},
		{serving | tailDone, 1 << 7},
		{serving | eof, 1 << 8},
		{serving | ended, 1 << 9},
		{finishing, 1 << 10},
		{finishing | linger, 1<<10 | 1<<11},
		{lingering, 1<<10 | 1<<12},
		{serving | blocked, 1 << 14},
		{serving | outgoing, 1 << 17},
		{serving | shutting, 1 << 22},
		{serving | shut, 1 << 23},
		{serving | steady, 1 << 24},
		{serving | deaf, 1 << 25},
	}
	var all flag
	for _, g := range golden {
		c := &Conn{flags: g.state | registered | foreign | crammed}
		if w := c.wireFacts(); w != g.wire {
			t.Errorf("state %b is %b on the wire, want %b", g.state, w, g.wire)
		}
		if s := stateOf(g.wire); s != g.state {
			t.Errorf("%b from the wire is %b, want %b", g.wire, s, g.state)
		}
		all |= g.state
	}
	if all&travels != travels {
		t.Errorf("of what travels, %b has no number", travels&^all)
	}
	// Whatever comes has one life, and nothing that is local.
	if s := stateOf(1<<32 - 1); bits.OnesCount32(uint32(s&open)) != 1 || s&^(open|travels) != 0 {
		t.Errorf("all ones are the state %b", s)
	}
}
