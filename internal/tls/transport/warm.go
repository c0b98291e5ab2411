package transport

import "reuseportd/internal/tls/record"

// Warm is the set of connections of one event loop that have their ciphers ready: those that were active last,
// up to a bound.
type Warm struct {
	room record.Room
	ring [512]*record.Conn
	next int
}

// touch makes a connection's ciphers. If there are too many, those of the connection that
// was active longest ago are freed.
func (w *Warm) touch(c *record.Conn) {
	if c.Warmed() {
		return
	}
	c.Warm()
	if old := w.ring[w.next]; old != nil && old != c {
		old.Cool()
	}
	w.ring[w.next] = c
	w.next = (w.next + 1) % len(w.ring)
}
