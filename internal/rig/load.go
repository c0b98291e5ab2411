package rig

import (
	"context"
	"iter"
	"sync"
	"sync/atomic"
	"time"
)

const (
	afterFailure = 5 * time.Millisecond   // a client's pause after a failure
	slowConnect  = 900 * time.Millisecond // a connect that took a second SYN (RFC 6298)
)

// Tally counts the results of a load. Answered and Lost together are the requests that
// were sent.
type Tally struct {
	Answered int `json:"answered"`
	// Lost requests were sent on a connection that the server then closed or
	// reset without a whole answer, or that stayed without one for 5 s.
	Lost   int `json:"lost"`
	Closed int `json:"closed"` // connections that the server ended by `Connection: close`, unasked
	Failed int `json:"failed"` // connects that were refused or took 5 s
	Slow   int `json:"slow"`   // connects that took as long as if a SYN had to be sent again
}

// Add adds another load's counts.
func (t *Tally) Add(o Tally) {
	t.Answered += o.Answered
	t.Lost += o.Lost
	t.Closed += o.Closed
	t.Failed += o.Failed
	t.Slow += o.Slow
}

// Sample is one answered request.
type Sample struct {
	Sent    time.Time
	Latency time.Duration
}

// Load is a number of clients that send request after request without a pause.
type Load struct {
	address string
	fresh   bool // a connection for each request
	ctx     context.Context
	end     atomic.Bool
	wg      sync.WaitGroup
	clients []client
}

type client struct {
	Tally
	samples []Sample
}

// StartKept starts n clients, each on a connection that it keeps.
func StartKept(ctx context.Context, address string, n int) *Load {
	return start(&Load{address: address, ctx: ctx, clients: make([]client, n)})
}

// StartFresh starts n clients that open a connection for each request.
func StartFresh(ctx context.Context, address string, n int) *Load {
	return start(&Load{address: address, ctx: ctx, fresh: true, clients: make([]client, n)})
}

func start(l *Load) *Load {
	for i := range l.clients {
		l.wg.Go(func() {
			for l.goesOn() {
				l.connection(&l.clients[i])
			}
		})
	}
	return l
}

func (l *Load) goesOn() bool { return !l.end.Load() && l.ctx.Err() == nil }

// connection runs one connection from its dial to its end.
func (l *Load) connection(c *client) {
	began := time.Now()
	conn, err := Dial(l.ctx, l.address)
	if err != nil {
		if l.ctx.Err() == nil {
			c.Failed++
		}
		time.Sleep(afterFailure)
		return
	}
	defer conn.Close()
	if time.Since(began) > slowConnect {
		c.Slow++
	}
	for l.goesOn() {
		sent := time.Now()
		closing, err := conn.Exchange(l.fresh)
		if err != nil {
			c.Lost++
			time.Sleep(afterFailure)
			return
		}
		c.Answered++
		c.samples = append(c.samples, Sample{sent, time.Since(sent)})
		if l.fresh {
			return
		}
		if closing {
			c.Closed++
			return
		}
	}
}

// Stop waits for every client's answer and sums up. It may be called again.
func (l *Load) Stop() Tally {
	l.end.Store(true)
	l.wg.Wait()
	var sum Tally
	for i := range l.clients {
		sum.Add(l.clients[i].Tally)
	}
	return sum
}

// Samples returns all answered requests, those of each client in order. It must be called
// after Stop.
func (l *Load) Samples() iter.Seq[Sample] {
	return func(yield func(Sample) bool) {
		for i := range l.clients {
			for _, s := range l.clients[i].samples {
				if !yield(s) {
					return
				}
			}
		}
	}
}
