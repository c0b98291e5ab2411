package h1

import (
	"math/bits"
	"slices"
	"time"

	"reuseportd/internal/eventloop"
)

// lifetime bounds the use of one connection: max_requests and max_lifetime.
type lifetime struct {
	requests uint32        // 0: no bound
	most     time.Duration // 0: no bound
	// steps are timeouts that double from one to the next; the first is firstStep. A loop's
	// timeouts are lists of equal waits, but each connection has another time left. So an
	// idle connection near its end waits for the largest step that fits, then for the next
	// one.
	steps []eventloop.Class
}

// firstStep is how precisely the lifetime of an idle connection is kept. It is not less than
// the error of Conn.Age.
const firstStep = 2 * eventloop.AgeUnit

// newLifetime makes the bounds of a loop's connections, none of which is idle for longer than idle.
func newLifetime(l *eventloop.Loop, requests int, most, idle time.Duration) lifetime {
	t := lifetime{requests: uint32(requests), most: most}
	for d := firstStep; most > 0 && d < 2*min(idle, most); d *= 2 {
		t.steps = append(t.steps, l.SpareClass(d, 0))
	}
	return t
}

// over reports whether the connection is to end after the answer that is about to be
// sent.
func (t *lifetime) over(c *eventloop.Conn) bool {
	return t.requests > 0 && c.Served() >= t.requests || t.most > 0 && c.Age() >= t.most
}

// wait makes an idle connection wait for its next request: for d, the timeout of class, or until
// its lifetime is over.
func (t *lifetime) wait(c *eventloop.Conn, class eventloop.Class, d time.Duration) {
	if t.most > 0 {
		if left := t.most - c.Age(); left < d {
			k := bits.Len64(uint64(max(0, left/firstStep)))
			class = t.steps[min(max(0, k-1), len(t.steps)-1)]
		}
	}
	c.SetTimeout(class)
}

// waitsOn is called when a connection's step has passed. If there is another one it makes the
// connection wait for it, and returns true.
func (t *lifetime) waitsOn(c *eventloop.Conn) bool {
	if t.most == 0 || c.Age() >= t.most || !slices.Contains(t.steps, c.Loop().Expired()) {
		return false
	}
	t.wait(c, 0, t.most)
	return true
}

// rest makes a connection wait for its next request.
func (h *Handler) rest(c *eventloop.Conn) {
	h.life.wait(c, h.keepalive, h.conf.KeepaliveTimeout)
}
