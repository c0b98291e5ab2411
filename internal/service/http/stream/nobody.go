package stream

import "reuseportd/internal/eventloop"

// NoBody is embedded by responders of routes that don't read bodies.
type NoBody struct{}

// Data implements Responder.
func (NoBody) Data([]byte) {}

// Trailer implements Responder.
func (NoBody) Trailer(_, _ []byte) {}

// Came implements Responder.
func (NoBody) Came(bool) *eventloop.Conn { return nil }
