package http

import (
	"testing"

	"reuseportd/internal/config"
	"reuseportd/internal/eventloop"
	"reuseportd/internal/service/http/h1"
	"reuseportd/internal/service/http/message"
	"reuseportd/internal/service/http/stream"
)

// BenchmarkFixed is what a fixed answer costs but for the loop and system calls: from the
// request's bytes to the answer's.
func BenchmarkFixed(b *testing.B) {
	site, err := NewSite(&config.HTTP{
		MaxRequestLine: 8 << 10, MaxHeader: 32 << 10, MaxBody: 1 << 20,
		Routes: []config.Route{
			{Path: "/", Respond: &config.Respond{Status: 200, Body: []byte("hello\n")}},
			{Path: "/healthz", Respond: &config.Respond{Status: 204}},
		},
	}, Options{AccessLog: -1})
	if err != nil {
		b.Fatal(err)
	}
	defer site.Close()
	v := newService(newLoop(b), site, nil)
	var r message.Request
	scratch := make([]byte, 0, 1024)
	to := &sink{date: []byte("Date: Tue, 15 Nov 1994 08:12:31 GMT\r\n")}
	in := []byte("GET / HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n")
	b.ReportAllocs()
	for b.Loop() {
		if n, status := h1.ParseRequest(in, 0, site.limits, &r, &scratch); n != len(in) || status != 0 {
			b.Fatal(n, status)
		}
		route, _ := v.Find(&r)
		if to.room = to.room[:0]; route.Serve(to, &r, nil) != nil || len(to.room) == 0 {
			b.Fatal("no answer")
		}
	}
}

// sink is a stream that takes fixed answers.
type sink struct {
	stream.Stream
	room, date []byte
}

func (s *sink) Fixed(f *stream.Fixed) {
	s.room = append(append(append(append(s.room, f.Head.Lines...), s.date...), "\r\n"...), f.Body...)
}

func newLoop(b *testing.B) *eventloop.Loop {
	b.Helper()
	l, err := eventloop.New(eventloop.Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { // Run gives back what New took
		l.Stop()
		if err := l.Run(); err != nil {
			b.Error(err)
		}
	})
	return l
}
