package meter

import (
	"context"
	"time"
)

// afterLoss keeps a client whose server is away from spinning.
const afterLoss = 10 * time.Millisecond

// fresh connects anew for each request. Odd requests ask the server to close;
// after even ones the client closes a connection that could have been kept.
func (m *Meter) fresh(ctx context.Context, t *tally, id int) {
	every := time.Second * time.Duration(m.cfg.Fresh) / time.Duration(m.cfg.FreshRate)
	next := time.Now().Add(every * time.Duration(id) / time.Duration(m.cfg.Fresh))
	for n := id; ctx.Err() == nil; n++ {
		sleep(ctx, time.Until(next))
		// No catching up: a stall of the server must not become a flood.
		next = time.Now().Add(every)
		m.freshOne(ctx, t, m.cfg.Paths[n%len(m.cfg.Paths)], n%2 == 1)
	}
}

func (m *Meter) freshOne(ctx context.Context, t *tally, path string, last bool) {
	began := time.Now()
	c, err := m.dial(t, m.cfg.HTTP)
	if err != nil {
		t.lost(nil, err, 1)
		sleep(ctx, afterLoss)
		return
	}
	defer c.Close()
	a, err := c.exchange(m.request(path, last))
	if err == nil {
		err = m.judge(path, a)
	}
	took := time.Since(began)
	if err == nil && a.close {
		err = c.expectEOF()
	}
	if err != nil {
		t.lost(c.LocalAddr(), err, 1)
		return
	}
	t.answered(took)
	if a.close && !last {
		if err := t.ended(); err != nil {
			t.lost(c.LocalAddr(), err, 1)
		}
	}
}

// judge is check as a fault.
func (m *Meter) judge(path string, a answer) error {
	if err := m.check(path, a); err != nil {
		return &fault{ReadBody, err}
	}
	return nil
}
