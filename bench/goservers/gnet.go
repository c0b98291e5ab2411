package main

import (
	"bytes"
	"strings"
	"sync/atomic"
	"time"

	"github.com/panjf2000/gnet/v2"
	"github.com/panjf2000/gnet/v2/pkg/logging"
)

// gnetServer answers in the event loop. It is to be built with the tag poll_opt, for
// gnet's cheaper poller. Level-triggered epoll, its default, is the cheaper one for
// small requests: edge-triggered, it reads once more, until there is nothing.
type gnetServer struct {
	gnet.BuiltinEventEngine
	answers atomic.Pointer[answers]
}

// answers are what is written, with this second's date.
type answers struct {
	kept []byte // pipelined times
	one  int    // the length of one of them
	last []byte // before the connection is closed
}

const pipelined = 32 // requests that one write answers

func serveGnet(address string) error {
	s := new(gnetServer)
	s.answers.Store(newAnswers(time.Now()))
	return gnet.Run(s, "tcp://"+address,
		gnet.WithMulticore(true), gnet.WithNumEventLoop(cpus), gnet.WithReusePort(true),
		gnet.WithTicker(true), gnet.WithLogLevel(logging.ErrorLevel))
}

func newAnswers(now time.Time) *answers {
	head := "HTTP/1.1 200 OK\r\nContent-Type: " + contentType + "\r\nContent-Length: 6\r\nDate: " +
		now.UTC().Format("Mon, 02 Jan 2006 15:04:05 GMT") + "\r\n"
	kept := head + "\r\n" + body
	return &answers{[]byte(strings.Repeat(kept, pipelined)), len(kept), []byte(head + "Connection: close\r\n\r\n" + body)}
}

// OnTick brings the date up to date.
func (s *gnetServer) OnTick() (time.Duration, gnet.Action) {
	s.answers.Store(newAnswers(time.Now()))
	return time.Second, gnet.None
}

// OnTraffic answers all whole requests that have come.
func (s *gnetServer) OnTraffic(c gnet.Conn) gnet.Action {
	a := s.answers.Load()
	in, _ := c.Peek(-1)
	done, n := 0, 0
	for {
		r := readHead(in[done:])
		if r.length == 0 {
			break // the rest comes later
		}
		done += r.length
		if n > 0 && (r.last || n == pipelined) {
			_, _ = c.Write(a.kept[:n*a.one])
			n = 0
		}
		if r.last {
			_, _ = c.Write(a.last)
			return gnet.Close
		}
		n++
	}
	if n > 0 {
		_, _ = c.Write(a.kept[:n*a.one])
	}
	_, _ = c.Discard(done)
	return gnet.None
}

// head is a request as far as this server looks at it.
type head struct {
	length int  // 0 if it has not come whole
	last   bool // the connection ends after it
}

// readHead finds the end of a request. One with a body is the last on its
// connection, since bodies are not read; one of HTTP/1.0 is, too.
func readHead(b []byte) head {
	var h head
	for at := 0; ; {
		end := bytes.IndexByte(b[at:], '\n')
		if end < 0 {
			return head{}
		}
		line := bytes.TrimSuffix(b[at:at+end], []byte{'\r'})
		first := at == 0
		at += end + 1
		switch {
		case first:
			h.last = bytes.HasSuffix(line, []byte(" HTTP/1.0"))
		case len(line) == 0:
			h.length = at
			return h
		default:
			h.last = h.last || endsConnection(line)
		}
	}
}

// endsConnection reports whether a header line makes its request the last one.
func endsConnection(line []byte) bool {
	name, value, _ := bytes.Cut(line, []byte{':'})
	switch len(name) {
	case len("Connection"):
		return bytes.EqualFold(name, []byte("Connection")) && bytes.EqualFold(bytes.TrimSpace(value), []byte("close"))
	case len("Content-Length"):
		return bytes.EqualFold(name, []byte("Content-Length"))
	case len("Transfer-Encoding"):
		return bytes.EqualFold(name, []byte("Transfer-Encoding"))
	}
	return false
}
