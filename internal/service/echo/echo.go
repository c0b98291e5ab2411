// Package echo sends back what it receives (RFC 862).
//
// It owns no memory except what the loop lends, and must never read more from a client
// than that takes back.
package echo

import (
	"errors"
	"time"

	"reuseportd/internal/eventloop"
)

// Handler is the echo service of one event loop.
type Handler struct{ idle eventloop.Class }

// New makes an echo service for a loop. A connection on which nothing moved for
// idle is closed; 0 is never.
func New(l *eventloop.Loop, idle time.Duration) *Handler {
	return &Handler{idle: l.Class(idle)}
}

// Opened waits for the first bytes.
func (h *Handler) Opened(c *eventloop.Conn) { c.SetTimeout(h.idle) }

// Received queues the bytes for their way back.
func (h *Handler) Received(c *eventloop.Conn, in []byte) int {
	c.Write(in)
	c.SetTimeout(h.idle)
	return len(in)
}

// Flushed is never called: nothing is sent from where it lies.
func (h *Handler) Flushed(*eventloop.Conn) {}

// Ended closes a connection when the client has shut its side and has all of its
// bytes back.
func (h *Handler) Ended(c *eventloop.Conn) { c.Finish(false) }

// TimedOut closes an idle connection.
func (h *Handler) TimedOut(c *eventloop.Conn) {
	c.Loop().Count().Quiet++
	c.Finish(true)
}

// Closed has nothing to let go.
func (h *Handler) Closed(*eventloop.Conn) {}

// kind names the form in which an echo is frozen.
const kind = "echo.1"

// Kind implements eventloop.Mover.
func (h *Handler) Kind(*eventloop.Conn) string { return kind }

// Freeze implements eventloop.Mover: all there is of an echo is in the loop.
func (h *Handler) Freeze(_ *eventloop.Conn, b []byte) ([]byte, []int) { return b, nil }

// Thaw implements eventloop.Mover.
func (h *Handler) Thaw(c *eventloop.Conn, k string, state []byte, fds []int) error {
	if k != kind || len(state)+len(fds) > 0 {
		return errors.New("an echo connection has no state of its own")
	}
	c.SetTimeout(h.idle)
	return nil
}
