package h1

import (
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"reuseportd/internal/eventloop"
	"reuseportd/internal/service/http/message"
	"reuseportd/internal/service/http/stream"
)

// echo is a route of no other package: it reads a body and sends it back as it comes.
type echo struct{}

func (e echo) Find(r *message.Request) (stream.Route, int) {
	if string(r.Path) == "/teapot" {
		return nil, 418
	}
	return e, 0
}

func (echo) ReadsBody() bool { return true }

func (echo) Serve(s stream.Stream, r *message.Request, body []byte) stream.Responder {
	s.Head(&message.Response{Status: 200, Length: -1}, len(body))
	if s.BodyRead() {
		s.Data(body)
		s.End()
		return nil
	}
	s.ReadBody()
	return &echoing{s: s}
}

type echoing struct{ s stream.Stream }

func (e *echoing) Data(p []byte)                                { e.s.Data(p) }
func (e *echoing) Trailer(name, value []byte)                   { e.s.Trailer(name, value) }
func (e *echoing) Room()                                        {}
func (e *echoing) TimedOut()                                    { e.s.Abort() }
func (e *echoing) Ended() bool                                  { return false }
func (e *echoing) Gone(unix.Errno, bool)                        {}
func (e *echoing) Held() int                                    { return 0 }
func (e *echoing) Freeze(b []byte) (stream.Kind, []byte, []int) { return 0, b, nil }
func (e *echoing) Came(end bool) *eventloop.Conn {
	if end {
		e.s.End()
	}
	return nil
}

// serve has a handler answer at a Unix socket, and returns how to connect to it.
func serve(t *testing.T, conf Config, site Site) (dial func() net.Conn) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	l, err := eventloop.New(eventloop.Options{Panicked: func(v any, stack []byte) { t.Errorf("panic: %v\n%s", v, stack) }})
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrUnix{Name: path}), unix.Listen(fd, 8)); err != nil {
		t.Fatal(err)
	}
	conf.Limits = Limits{Line: 1024, Head: 4096, Body: 1 << 20}
	if _, err := l.Listen(fd, l.NewService(NewHandler(l, conf, site), time.Minute), eventloop.Sharing{}); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- l.Run() }()
	t.Cleanup(func() {
		l.Post(func() { l.Cut(); l.Stop() })
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return func() net.Conn {
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		_ = c.SetDeadline(time.Now().Add(time.Minute))
		return c
	}
}

// The framing serves whoever answers by the seam: a route that reads bodies and is no proxy, too.
func TestAnyRoute(t *testing.T) {
	dial := serve(t, Config{HeaderTimeout: time.Minute, BodyTimeout: time.Minute, KeepaliveTimeout: time.Minute}, echo{})
	const head, tail = "POST / HTTP/1.1\r\nHost: h\r\n", "GET /teapot HTTP/1.1\r\nHost: h\r\n\r\n"
	for _, c := range []struct {
		name  string
		parts []string // a bar is a byte of the body, and waited for
		want  string   // what is sent back, in chunks
	}{
		{"no body", []string{head + "\r\n"}, "0\r\n\r\n"},
		{"whole", []string{head + "Content-Length: 4\r\n\r\nabc|"}, "4\r\nabc|\r\n0\r\n\r\n"},
		{"length", []string{head + "Content-Length: 6\r\n\r\nab|", "c|", "|"}, "3\r\nab|\r\n2\r\nc|\r\n1\r\n|\r\n0\r\n\r\n"},
		{"chunks", []string{head + "Transfer-Encoding: chunked\r\n\r\n4\r\nab|", "c\r\n1\r\n|\r\n0\r\nA: b\r\n\r\n"}, "3\r\nab|\r\n1\r\nc\r\n1\r\n|\r\n0\r\nA: b\r\n\r\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			conn := dial()
			var got strings.Builder
			for i, p := range c.parts {
				if i == len(c.parts)-1 {
					p += tail
				}
				_, _ = io.WriteString(conn, p)
				for bars := strings.Count(strings.Join(c.parts[:i+1], ""), "|"); strings.Count(got.String(), "|") < bars; {
					buf := make([]byte, 1000)
					n, err := conn.Read(buf)
					if err != nil {
						t.Fatalf("%v behind %q", err, &got)
					}
					got.Write(buf[:n])
				}
			}
			rest, err := io.ReadAll(conn)
			if err != nil {
				t.Fatal(err)
			}
			_, body, _ := strings.Cut(got.String()+string(rest), "\r\n\r\n")
			if body, _, _ := strings.Cut(body, "HTTP/1.1 418 I'm a teapot\r\n"); body != c.want {
				t.Errorf("got %q, want %q", body, c.want)
			}
		})
	}
}

// A body that doesn't come is the route's to give up.
func TestAnyRouteTimesOut(t *testing.T) {
	dial := serve(t, Config{HeaderTimeout: time.Minute, BodyTimeout: 50 * time.Millisecond, KeepaliveTimeout: time.Minute}, echo{})
	conn := dial()
	_, _ = fmt.Fprint(conn, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nab")
	got, err := io.ReadAll(conn)
	if err != nil || !strings.HasSuffix(string(got), "\r\n\r\n2\r\nab\r\n") {
		t.Errorf("%q, %v", got, err)
	}
}
