package control

import (
	"context"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"
)

// maxClients bounds the clients that are asking at the same time, and likewise those that
// wait for an answer. A person needs one; the bound keeps a runaway script from using up
// descriptors.
const maxClients = 64

// client is one connection to the control socket. Its fields belong to its places.
type client struct {
	conn    *net.UnixConn
	command string             // the command that it waits for
	cancel  context.CancelFunc // of the request that is being handled; nil if none is
	shed    bool               // its place went to another client
}

// places are the clients that are served. No client is refused: if there is no place, the
// client that has had its place for longest loses it. So clients that are silent or
// stopped, or wait for ever, never keep out `status` and `stop`.
type places struct {
	mu     sync.Mutex
	closed bool
	// asking clients have not sent a request yet, waiting ones have no answer yet; both
	// oldest first. Invariant: a client is in at most one of them, each has at most
	// maxClients, and asking is empty once closed is set.
	asking, waiting []*client
}

// ask gives c a place in which to ask, for requestTimeout, and reports whether it may.
func (p *places) ask(c *client) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.remove(c)
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

// closing reports whether a read from c may have been interrupted by the end of the
// service or by the loss of its place.
func (p *places) closing(c *client) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.closed || c.shed
}

// wait gives c, which has asked, a place in which to wait for its answer. It returns a
// context for the request, and whether c may wait. A request that has been read is
// answered even if the server is ending, unless that end interrupted the reading.
func (p *places) wait(c *client, parent context.Context, command string) (context.Context, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.remove(c)
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

// shedWaiting takes the place of the client that has waited longest. Those that wait for
// the end of the service come last.
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

// answer gives c responseTimeout to read its answer. It returns false if c's place has gone to
// another client.
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
	p.remove(c)
}

func (p *places) remove(c *client) {
	same := func(d *client) bool { return d == c }
	p.asking = slices.DeleteFunc(p.asking, same)
	p.waiting = slices.DeleteFunc(p.waiting, same)
}

// close interrupts the clients that haven't sent a request, and lets no more in.
func (p *places) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for _, c := range p.asking {
		c.interrupt()
	}
	p.asking = nil
}

// interrupt ends reads from and writes to a client.
func (c *client) interrupt() { c.conn.SetDeadline(time.Unix(1, 0)) }

// refusal is the text for a client that gets no answer.
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
