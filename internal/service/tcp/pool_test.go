package tcp_test

import (
	"testing"

	"reuseportd/internal/config"
	"reuseportd/internal/upstream"
)

// pool is upstreams with a board of their own, and their choosers for one loop.
type pool struct {
	board    *upstream.Board
	choosers map[string]*upstream.Chooser // by name
}

func newPool(t testing.TB, ups []config.Upstream) *pool {
	t.Helper()
	board, err := upstream.NewBoard()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { board.Close() })
	set, err := upstream.New(ups, board, nil)
	if err != nil {
		t.Fatal(err)
	}
	p := &pool{board, make(map[string]*upstream.Chooser)}
	for i := range ups {
		if p.choosers[ups[i].Name], err = set.Chooser(ups[i].Name, 0); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

// sum adds up what the board knows of all servers.
func (p *pool) sum() (out upstream.ServerState) {
	for name := range p.choosers {
		for _, s := range p.board.Snapshot(name) {
			out.InUse += s.InUse
			out.Connects += s.Connects
			out.BytesIn += s.BytesIn
			out.BytesOut += s.BytesOut
			for i, n := range s.Failures {
				out.Failures[i] += n
			}
		}
	}
	return out
}

func (p *pool) inUse() int { return int(p.sum().InUse) }

// bytes returns what came from servers and what went to them.
func (p *pool) bytes() (in, out int) {
	s := p.sum()
	return int(s.BytesIn), int(s.BytesOut)
}
