package http

import (
	"reuseportd/internal/config"
	"reuseportd/internal/service/http/message"
	"reuseportd/internal/service/http/stream"
)

// redirect is a route that answers with a place made of the request's host and target.
type redirect struct {
	fixed
	parts []config.LocationPart
}

func newRedirect(s *Site, c *config.Route) (kind, error) {
	if c.Respond == nil || c.Respond.Location == nil {
		return nil, nil
	}
	r := &redirect{fixed: fixed{conf: c.Respond}, parts: c.Respond.Location}
	swap, err := r.renew(s.set)
	if err != nil {
		return nil, err
	}
	swap()
	return r, nil
}

func (r *redirect) bind(*binding) stream.Route { return r }

// Serve implements stream.Route.
func (r *redirect) Serve(s stream.Stream, q *message.Request, _ []byte) stream.Responder {
	answer := r.answer.Load()
	head := answer.Head
	place, ok := r.place(append([]byte(nil), head.Lines...), q)
	if !ok {
		s.Fail(400)
		return nil
	}
	head.Lines = place
	body := answer.Body
	if q.IsHead() {
		body = nil
	}
	s.Head(&head, len(body))
	if len(body) > 0 {
		s.Data(body)
	}
	s.End()
	return nil
}

// place appends the Location field. It returns false for a request without what it takes: of HTTP/1.0 without a host, or about
// the server as a whole.
func (r *redirect) place(b []byte, q *message.Request) ([]byte, bool) {
	b = append(b, "Location: "...)
	for _, p := range r.parts {
		switch p.Of {
		case "":
			b = append(b, p.Text...)
		case "host":
			if len(q.Host) == 0 {
				return b, false
			}
			b = append(b, q.Host...)
		case "target":
			if len(q.Sent) == 0 || q.Sent[0] != '/' {
				return b, false
			}
			b = message.AppendASCII(b, q.Sent)
			if q.Query != nil {
				b = message.AppendASCII(append(b, '?'), q.Query)
			}
		}
	}
	return append(b, "\r\n"...), true
}
