package http

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"

	"reuseportd/internal/config"
	"reuseportd/internal/material"
	"reuseportd/internal/service/http/files"
	"reuseportd/internal/service/http/message"
	"reuseportd/internal/service/http/stream"
)

// fixed is a route that always gives the same answer, until the file with its body
// changes.
type fixed struct {
	conf   *config.Respond
	number int
	answer atomic.Pointer[stream.Fixed] // the current answer: never changed, only replaced
}

func newFixed(s *Site, c *config.Route) (kind, error) {
	if c.Respond == nil || c.Respond.Location != nil {
		return nil, nil
	}
	f := &fixed{conf: c.Respond, number: s.fixed}
	s.fixed++
	swap, err := f.renew(s.set)
	if err != nil {
		return nil, err
	}
	swap()
	return f, nil
}

// renew implements renewer.
func (f *fixed) renew(set *material.Set) (swap func(), err error) {
	body := f.conf.Body
	if f.conf.File != "" {
		m := f.conf.Material()
		files := set.Find(material.Want{Kind: material.Kind(m.Kind), Paths: m.Paths})
		if len(files) != 1 {
			return nil, fmt.Errorf("the master has sent nothing of %s", f.conf.File)
		}
		body = files[0]
	}
	if now := f.answer.Load(); now != nil && bytes.Equal(now.Body, body) {
		return func() {}, nil // so what framings keep of it stays valid
	}
	answer := fixedAnswer(f.conf, body)
	answer.Number = f.number
	return func() { f.answer.Store(&answer) }, nil
}

func fixedAnswer(c *config.Respond, body []byte) stream.Fixed {
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
	switch {
	case has("Content-Type"):
	case c.File != "":
		b.WriteString("Content-Type: " + files.ContentType([]byte(c.File)) + "\r\n")
	case len(body) > 0:
		b.WriteString("Content-Type: text/plain; charset=utf-8\r\n")
	}
	length := int64(len(body))
	if c.Status == 204 || c.Status == 304 {
		length = -1
	}
	return stream.Fixed{
		Head: message.Response{Status: c.Status, Lines: []byte(b.String()), Length: length, Local: true},
		Body: body,
	}
}

func (f *fixed) bind(*binding) stream.Route { return f }
func (f *fixed) close()                     {}

// ReadsBody implements stream.Route.
func (f *fixed) ReadsBody() bool { return false }

// Serve implements stream.Route.
func (f *fixed) Serve(s stream.Stream, _ *message.Request, _ []byte) stream.Responder {
	s.Fixed(f.answer.Load())
	return nil
}
