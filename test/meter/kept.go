package meter

import (
	"context"
	"time"
)

// kept sends request after request on one connection, until an answer says
// Connection: close. An end in any other way is a loss, and so is one while
// the connection is idle: a client that was about to send would have lost its
// request.
func (m *Meter) kept(ctx context.Context, t *tally, id int) {
	m.reconnect(ctx, t, func(c *conn) error { return m.keep(ctx, t, c, id) })
}

// reconnect runs use on one connection after another until ctx ends.
func (m *Meter) reconnect(ctx context.Context, t *tally, use func(*conn) error) {
	for ctx.Err() == nil {
		c, err := m.dial(t, m.cfg.HTTP)
		if err != nil {
			t.lost(nil, err, 1)
			sleep(ctx, afterLoss)
			continue
		}
		if err := use(c); err != nil {
			t.lost(c.LocalAddr(), err, 1)
			sleep(ctx, afterLoss)
		}
		c.Close()
	}
}

func (m *Meter) keep(ctx context.Context, t *tally, c *conn, n int) error {
	for ; ; n++ {
		// A last request proves that the connection outlived the last pause.
		last := ctx.Err() != nil
		path := m.cfg.Paths[n%len(m.cfg.Paths)]
		began := time.Now()
		a, err := c.exchange(m.request(path, false))
		if err == nil {
			err = m.judge(path, a)
		}
		if err != nil {
			return err
		}
		t.answered(time.Since(began))
		if a.close {
			return c.end(t)
		}
		if last {
			return nil
		}
		if err := c.idle(ctx.Done(), m.cfg.KeptPause); err != nil {
			return err
		}
	}
}
