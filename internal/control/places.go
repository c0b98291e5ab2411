package control

import (
	"context"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"
)

// maxClients bounds the clients that are asking at the same time, and likewise those
// that wait for an answer. A person needs one; the bound keeps a script gone wild
// from using up descriptors.
const maxClients = 64

// client is one connection to the control socket. Its fields belong to its places.
type client struct {
	conn    *net.UnixConn
	command string             // that it waits for
	cancel  context.CancelFunc // of the request that is handled; nil while none is
	shed    bool               // its place went to another client
}

// places are the clients that are served. Nobody is turned away: where there is no
// place the client that has had its own for longest loses it. So clients that are
// silent, stopped or wait for ever never keep out `status` and `stop`.
type places struct {
	mu     sync.Mutex
	closed bool
	// asking have not asked yet, waiting have no answer yet; both oldest first.
	// Invariant: a client is in at most one of them, each has at most maxClients,
	// and asking is empty once closed is set.
	asking, waiting []*client
}

// ask gives c a place in which to ask, for requestTimeout, and reports whether it may.
func (p *places) ask(c *client) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.drop(c)
	if p.closed || c.shed {
		return false
	}
	if len(p.asking) == maxClients {
		oldest := p.asking[0]
		p.asking = p.asking[1:]
		oldest.shed = true
		oldest.interrupt()
	}
	c.command = ""
	c.conn.SetReadDeadline(time.Now().Add(requestTimeout))
	p.asking = append(p.asking, c)
	return true
}

// closing reports whether c's reading may have been interrupted by the end of the
// service or by the loss of its place.
func (p *places) closing(c *client) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.closed || c.shed
}

// wait gives c, which has asked, a place in which to wait for its answer. It returns the
// context of that, and whether c may wait: a request that has been read is answered
// even when the server is leaving, unless its reading was what the end interrupted.
func (p *places) wait(c *client, parent context.Context, command string) (context.Context, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.drop(c)
	if p.closed || c.shed {
		return nil, false
	}
	if len(p.waiting) == maxClients {
		p.shedWaiting()
	}
	var ctx context.Context
	ctx, c.cancel = context.WithCancel(parent)
	c.command = command
	p.waiting = append(p.waiting, c)
	return ctx, true
}

// shedWaiting takes the place of the client that has waited longest; of one that waits
// for the end of the service only if all do.
func (p *places) shedWaiting() {
	i := max(0, slices.IndexFunc(p.waiting, func(c *client) bool { return c.command != "stop" }))
	c := p.waiting[i]
	p.waiting = slices.Delete(p.waiting, i, i+1)
	c.shed = true
	if c.cancel != nil {
		c.cancel()
	} else {
		c.interrupt() // it is being answered, and doesn't read
	}
}

// answer gives c responseTimeout to read the answer that has come, and reports whether it is to
// have it: its place may have gone to another one.
func (p *places) answer(c *client) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	c.cancel()
	c.cancel = nil
	if !c.shed {
		c.conn.SetWriteDeadline(time.Now().Add(responseTimeout))
	}
	return !c.shed
}

// leave ends c's place.
func (p *places) leave(c *client) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.drop(c)
}

func (p *places) drop(c *client) {
	same := func(d *client) bool { return d == c }
	p.asking = slices.DeleteFunc(p.asking, same)
	p.waiting = slices.DeleteFunc(p.waiting, same)
}

// close interrupts the clients that wait for no answer, and lets no more in.
func (p *places) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for _, c := range p.asking {
		c.interrupt()
	}
	p.asking = nil
}

// interrupt ends what is read from a client, and what is written to it.
func (c *client) interrupt() { c.conn.SetDeadline(time.Unix(1, 0)) }

// refusal is what a client is told that is not answered.
func (c *client) refusal() string {
	if !c.shed {
		return ErrSuperseded
	}
	text := fmt.Sprintf("more than %d clients ask this master at once, and this one has had its place for longest", maxClients)
	if c.command == "" {
		return text + "; try again in a moment"
	}
	return text + "; what it asked for goes on: see `reuseportd status`"
}
