package http

import (
	"slices"
	"strings"

	"reuseportd/internal/config"
	"reuseportd/internal/service/http/message"
	"reuseportd/internal/service/http/stream"
)

// fixed is a route that always gives the same answer.
type fixed struct{ stream.Fixed }

func newFixed(s *Site, c *config.Route) (kind, error) {
	if c.Respond == nil {
		return nil, nil
	}
	f := &fixed{fixedAnswer(c.Respond)}
	f.Number = s.fixed
	s.fixed++
	return f, nil
}

func fixedAnswer(c *config.Respond) stream.Fixed {
	var b strings.Builder
	has := func(name string) bool {
		return slices.ContainsFunc(c.Headers, func(f config.Header) bool { return strings.EqualFold(f.Name, name) })
	}
	if !has("Server") {
		b.WriteString(message.Server)
	}
	for _, f := range c.Headers {
		b.WriteString(f.Name + ": " + f.Value + "\r\n")
	}
	if !has("Content-Type") && len(c.Body) > 0 {
		b.WriteString("Content-Type: text/plain; charset=utf-8\r\n")
	}
	length := int64(len(c.Body))
	if c.Status == 204 || c.Status == 304 {
		length = -1
	}
	return stream.Fixed{
		Head: message.Response{Status: c.Status, Lines: []byte(b.String()), Length: length, Local: true},
		Body: c.Body,
	}
}

func (f *fixed) bind(*binding) stream.Route { return f }
func (f *fixed) close()                     {}

// ReadsBody implements stream.Route.
func (f *fixed) ReadsBody() bool { return false }

// Serve implements stream.Route.
func (f *fixed) Serve(s stream.Stream, _ *message.Request, _ []byte) stream.Responder {
	s.Fixed(&f.Fixed)
	return nil
}
