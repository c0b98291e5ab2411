package tcp_test

import (
	"testing"

	"reuseportd/internal/config"
	"reuseportd/internal/upstream"
)

// pool is an upstream with a board of its own, and its chooser for one loop.
type pool struct {
	board   *upstream.Board
	chooser *upstream.Chooser
}

func newPool(t testing.TB, up *config.Upstream) *pool {
	t.Helper()
	board, err := upstream.NewBoard()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { board.Close() })
	set, err := upstream.New([]config.Upstream{*up}, board, nil)
	if err != nil {
		t.Fatal(err)
	}
	chooser, err := set.Chooser(up.Name, 0)
	if err != nil {
		t.Fatal(err)
	}
	return &pool{board, chooser}
}

// sum adds up what the board knows of all servers.
func (p *pool) sum() (out upstream.ServerState) {
	for _, s := range p.board.Snapshot("app") {
		out.InUse += s.InUse
		out.Connects += s.Connects
		out.BytesIn += s.BytesIn
		out.BytesOut += s.BytesOut
		for i, n := range s.Failures {
			out.Failures[i] += n
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
