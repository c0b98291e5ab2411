package eventloop_test

import (
	"bytes"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"reuseportd/internal/eventloop"
	"reuseportd/internal/service/echo"
)

// sending is one kind of output and what the client gets of it.
type sending struct {
	queue func(*eventloop.Conn)
	want  []byte
	tail  bool
}

func sendings(t *testing.T) map[string]sending {
	head, body := pattern(1, 300<<10), pattern(2, 5<<20)
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, append(pattern(3, 1000), body...), 0o600); err != nil {
		t.Fatal(err)
	}
	file := func(c *eventloop.Conn) {
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Error(err)
		}
		c.SendFile(fd, 1000, int64(len(body)))
	}
	whole := append(bytes.Clone(head), body...)
	return map[string]sending{
		"copied":      {func(c *eventloop.Conn) { c.Write(whole) }, whole, false},
		"static":      {func(c *eventloop.Conn) { c.Write(head); c.WriteStatic(body) }, whole, true},
		"file":        {func(c *eventloop.Conn) { c.Write(head); file(c) }, whole, true},
		"only a file": {file, body, true},
	}
}

// blockedIn waits until a loop's only connection can't write.
func blockedIn(s *server) (conn *eventloop.Conn) {
	s.t.Helper()
	s.until("output is blocked", func() bool {
		conn = s.Only()
		return conn != nil && conn.Blocked()
	})
	return conn
}

// Output that a client doesn't take goes along from the first byte that was not
// written, and so does what is to be done when it has gone.
func TestMoveOutput(t *testing.T) {
	for kind, send := range sendings(t) {
		for how, then := range map[string]func(*eventloop.Conn){
			"keep":              func(*eventloop.Conn) {},
			"finish":            func(c *eventloop.Conn) { c.Finish(false) },
			"finish until peer": func(c *eventloop.Conn) { c.Finish(true) },
		} {
			t.Run(kind+", "+how, func(t *testing.T) {
				flushed := make(map[*eventloop.Loop]int)
				r := moves(t, func(l *eventloop.Loop) *mover {
					return &mover{calls: calls{
						received: func(c *eventloop.Conn, in []byte) int {
							if string(in) == "x" {
								send.queue(c)
								then(c)
							} else {
								c.Write(in)
							}
							return len(in)
						},
						flushed: func(*eventloop.Conn) { flushed[l]++ },
					}}
				})
				c := r.from.dial()
				_ = c.SetReadBuffer(64 << 10)
				_, _ = c.Write([]byte("x"))
				blockedIn(r.from)
				first := make([]byte, 100<<10)
				if _, err := io.ReadFull(c, first); err != nil {
					t.Fatal(err)
				}
				conn := r.move()
				r.to.do(func() {
					if !conn.Congested() {
						t.Error("nothing waits: the test shows nothing")
					}
				})
				got := append(first, make([]byte, len(send.want)-len(first))...)
				if _, err := io.ReadFull(c, got[len(first):]); err != nil || !bytes.Equal(got, send.want) {
					t.Fatalf("%d bytes or others, error %v", len(got), err)
				}
				if how == "keep" {
					ping(t, c)
				} else if _, err := c.Read(make([]byte, 1)); err != io.EOF {
					t.Errorf("at the end: %v", err)
				}
				r.to.do(func() {
					if conn.Lingering() != (how == "finish until peer") {
						t.Errorf("lingering is %v", conn.Lingering())
					}
					want := 0
					if send.tail && how == "keep" {
						want = 1
					}
					if flushed[r.to.Loop] != want || flushed[r.from.Loop] != 0 {
						t.Errorf("Flushed was called %v times", flushed)
					}
				})
			})
		}
	}
}

// A client that sent one request after another and reads no answer is answered all
// of them, in order, from where the first loop stopped.
func TestMovePaused(t *testing.T) {
	const messages = 300
	for _, tail := range []bool{false, true} {
		answered := 0
		r := moves(t, func(*eventloop.Loop) *mover {
			return &mover{calls: *frames(func(c *eventloop.Conn, m []byte) bool {
				answered++
				if tail {
					c.WriteStatic(bytes.Repeat(m, 200))
				} else {
					c.Write(bytes.Repeat(m, 200))
				}
				return !c.Congested()
			})}
		})
		var stream, want []byte
		for i := range uint64(messages) {
			m := pattern(i, 100)
			stream, want = append(stream, frame(m)...), append(want, bytes.Repeat(m, 200)...)
		}
		c := r.from.dial()
		if _, err := c.Write(stream); err != nil {
			t.Fatal(err)
		}
		if conn := blockedIn(r.from); !conn.Paused() || answered == messages {
			t.Fatalf("paused is %v after %d answers: the test shows nothing", conn.Paused(), answered)
		}
		conn := r.move()
		r.to.do(func() {
			if !conn.Paused() || conn.Kept() == 0 {
				t.Error("it is not paused any more")
			}
		})
		got := make([]byte, len(want))
		if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, want) {
			t.Errorf("tail=%v: answers differ, error %v", tail, err)
		}
	}
}

// Connections that are passed on between three loops all the while, whatever they
// are in the middle of, lose, double and reorder nothing.
func TestMoveUnderWay(t *testing.T) {
	const clients = 8
	o := config{handler: func(l *eventloop.Loop) eventloop.Handler { return echo.New(l, 0) }}
	r := newRelay(t, o)
	third := serve(t, o)
	t.Cleanup(func() { third.do(third.Cut) })
	ring := []*server{r.from, r.to, third}
	for _, s := range ring {
		s.do(func() { s.DrainTo(nil) })
	}
	var wg sync.WaitGroup
	for i := range uint64(clients) {
		c := r.from.dial()
		wg.Go(func() {
			p := pattern(i, 8<<20)
			if got, err := exchange(c, i, p); err != nil || !bytes.Equal(got, p) {
				t.Errorf("connection %d: %d bytes back of %d, error %v", i, len(got), len(p), err)
			}
		})
	}
	done := make(chan struct{})
	go func() {
		wg.Wait()
		close(done)
	}()
	rnd := rand.New(rand.NewPCG(1, 1))
	passed := 0
	for hop := 0; ; hop++ {
		select {
		case <-done:
			if passed == 0 {
				t.Error("nothing was passed on")
			}
			for _, s := range ring {
				s.until("all are closed", func() bool { return s.Open() == 0 })
			}
			return
		default:
		}
		from, to := ring[hop%3], ring[(hop+1+rnd.IntN(2))%3]
		for _, d := range from.depart(1 + rnd.IntN(clients)) {
			if rnd.IntN(3) == 0 { // offered and not taken
				from.do(func() { from.Return(&d, true) })
				continue
			}
			c, err := to.arrive(&d)
			if err != nil {
				t.Errorf("arrive: %v", err)
				from.do(func() { from.Return(&d, true) })
				continue
			}
			passed++
			if rnd.IntN(2) == 0 { // the answer may come late
				to.do(func() { to.Begin(c) })
				from.do(func() { from.Departed(&d) })
			} else {
				from.do(func() { from.Departed(&d) })
				to.do(func() { to.Begin(c) })
			}
		}
	}
}
