package h1

import (
	"math/bits"
	"slices"
	"time"

	"reuseportd/internal/eventloop"
)

// lifetime bounds what one connection is used for: max_requests and max_lifetime.
type lifetime struct {
	requests uint32        // 0: no bound
	most     time.Duration // 0: no bound
	// steps are timeouts that double from one to the next, the first of firstStep. An idle
	// connection near its end waits for the largest that isn't beyond it, and then again: a
	// loop's timeouts are lists of equal waits, and what is left differs for each connection.
	steps []eventloop.Class
}

// firstStep is how exactly an idle connection's lifetime is kept. It is no less than Conn.Age's
// own error.
const firstStep = 2 * eventloop.AgeUnit

// newLifetime makes the bounds of a loop's connections, none of which is idle for longer than idle.
func newLifetime(l *eventloop.Loop, requests int, most, idle time.Duration) lifetime {
	t := lifetime{requests: uint32(requests), most: most}
	for d := firstStep; most > 0 && d < 2*min(idle, most); d *= 2 {
		t.steps = append(t.steps, l.SpareClass(d, 0))
	}
	return t
}

// over reports whether the connection is to end with the answer that comes.
func (t *lifetime) over(c *eventloop.Conn) bool {
	return t.requests > 0 && c.Served() >= t.requests || t.most > 0 && c.Age() >= t.most
}

// wait has an idle connection wait for its next request: for as long as class, whose timeout is d,
// or until its lifetime is over.
func (t *lifetime) wait(c *eventloop.Conn, class eventloop.Class, d time.Duration) {
	if t.most > 0 {
		if left := t.most - c.Age(); left < d {
			k := bits.Len64(uint64(max(0, left/firstStep)))
			class = t.steps[min(max(0, k-1), len(t.steps)-1)]
		}
	}
	c.SetTimeout(class)
}

// waitsOn has a connection whose step is over wait for the next one, and reports whether it does.
func (t *lifetime) waitsOn(c *eventloop.Conn) bool {
	if t.most == 0 || c.Age() >= t.most || !slices.Contains(t.steps, c.Loop().Expired()) {
		return false
	}
	t.wait(c, 0, t.most)
	return true
}

// rest has a connection wait for its next request.
func (h *Handler) rest(c *eventloop.Conn) {
	h.life.wait(c, h.keepalive, h.conf.KeepaliveTimeout)
}
