package meter

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"
)

// pipeline writes several requests at once on a kept connection and expects
// their answers whole and in order.
//
// When an answer says Connection: close, the server must not process what
// comes behind it, and the client knows that it did not (RFC 9112 section
// 9.6): those requests are counted as unanswered, sent again on the next
// connection, and lost only if they fail there. Requests still open when the
// connection ends without such an answer may or may not have been processed:
// each is lost. So is an answer that a reset destroyed on its way, the fate of
// a server that closes with requests unread.
func (m *Meter) pipeline(ctx context.Context, t *tally, id int) {
	rnd := rand.New(rand.NewPCG(m.cfg.Seed, 1000+uint64(id)))
	var again []string // unanswered paths
	// The loop outlives ctx until nothing is left to send again.
	for ctx.Err() == nil || len(again) > 0 {
		c, err := m.dial(t, m.cfg.HTTP)
		if err != nil {
			t.lost(nil, err, max(1, len(again)))
			again = nil
			sleep(ctx, afterLoss)
			continue
		}
		again = m.pipe(ctx, t, c, again, rnd)
		c.Close()
	}
}

// pipe uses one connection up and returns what it left unanswered.
func (m *Meter) pipe(ctx context.Context, t *tally, c *conn, again []string, rnd *rand.Rand) []string {
	for {
		paths := again
		for len(paths) < 2 || rnd.IntN(4) > 0 && len(paths) < 8 {
			paths = append(paths, m.cfg.Paths[rnd.IntN(len(m.cfg.Paths))])
		}
		again = nil
		answered, closed, err := m.pipeOnce(t, c, paths)
		open := paths[answered:]
		if err != nil {
			t.lost(c.LocalAddr(), err, max(1, len(open)))
			sleep(ctx, afterLoss)
			return nil
		}
		if closed {
			if err := t.ended(); err != nil {
				t.lost(c.LocalAddr(), err, 1)
			}
			t.unanswered(len(open))
			return open
		}
		if ctx.Err() != nil {
			return nil
		}
		if err := c.idle(ctx.Done(), m.cfg.KeptPause); err != nil {
			t.lost(c.LocalAddr(), err, 1)
			return nil
		}
	}
}

func (m *Meter) pipeOnce(t *tally, c *conn, paths []string) (answered int, closed bool, err error) {
	var all []byte
	for _, path := range paths {
		all = append(all, m.request(path, false)...)
	}
	began := time.Now()
	if err := c.send(all); err != nil {
		return 0, false, err
	}
	for i, path := range paths {
		a, err := c.answer()
		if err == nil {
			err = m.judge(path, a)
		}
		if err != nil {
			return i, false, fmt.Errorf("%w (answer %d of %d)", err, i+1, len(paths))
		}
		t.answered(time.Since(began))
		if a.close {
			return i + 1, true, c.expectEOF()
		}
	}
	return len(paths), false, nil
}
