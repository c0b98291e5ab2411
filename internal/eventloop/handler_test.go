package eventloop_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"reuseportd/internal/eventloop"
)

// callbacks are the methods of a Handler, in the order in which script has them
// called for one connection.
var callbacks = []string{"Opened", "Received", "Flushed", "TimedOut", "Ended", "Closed"}

// script is a handler in which f is called from each method, by name.
func script(l *eventloop.Loop, f func(name string, c *eventloop.Conn)) *calls {
	return &calls{
		opened: func(c *eventloop.Conn) { f("Opened", c) },
		received: func(c *eventloop.Conn, in []byte) int {
			c.WriteStatic([]byte("static"))
			f("Received", c)
			return len(in)
		},
		flushed: func(c *eventloop.Conn) {
			c.SetTimeout(l.Class(time.Millisecond))
			f("Flushed", c)
		},
		timedOut: func(c *eventloop.Conn) {
			c.Write([]byte("timeout"))
			f("TimedOut", c)
		},
		ended: func(c *eventloop.Conn) {
			c.Write([]byte("ended"))
			f("Ended", c)
			c.Finish(false)
		},
		closed: func(c *eventloop.Conn) { f("Closed", c) },
	}
}

// play is the client of script. It reads until the server closes.
func play(s *server) {
	c := s.dial()
	_, _ = c.Write([]byte("x"))
	if _, err := io.ReadFull(c, make([]byte, len("statictimeout"))); err == nil {
		_ = c.CloseWrite()
	}
	_, _ = io.Copy(io.Discard, c)
	_ = c.Close()
}

// What a handler does wrong, or cuts short, costs its connection and nothing
// else, wherever it does it.
func TestEndInEachCallback(t *testing.T) {
	for how, f := range map[string]func(*eventloop.Conn){
		"panic":              func(*eventloop.Conn) { panic("as ordered") },
		"Close":              func(c *eventloop.Conn) { c.Close() },
		"Close twice":        func(c *eventloop.Conn) { c.Close(); c.Close() },
		"Close, then use":    func(c *eventloop.Conn) { c.Close(); use(c) },
		"Close, then panic":  func(c *eventloop.Conn) { c.Close(); panic("as ordered") },
		"Finish":             func(c *eventloop.Conn) { c.Finish(false) },
		"Finish until peer":  func(c *eventloop.Conn) { c.Finish(true) },
		"Finish, then Close": func(c *eventloop.Conn) { c.Finish(true); c.Close() },
		"Wake":               func(c *eventloop.Conn) { c.Wake(); c.Wake() },
	} {
		for _, where := range callbacks {
			t.Run(how+" in "+where, func(t *testing.T) {
				var called []string
				told := 0
				bad := false
				s := serve(t, config{
					Options: eventloop.Options{Panicked: func(v any, stack []byte) {
						if told++; v != "as ordered" || !bytes.Contains(stack, []byte("TestEndInEachCallback")) {
							t.Errorf("told of %v\n%s", v, stack)
						}
					}},
					handler: func(l *eventloop.Loop) eventloop.Handler {
						return script(l, func(name string, c *eventloop.Conn) {
							if bad {
								called = append(called, name)
								if name == where {
									f(c)
								}
							}
						})
					},
				})
				bystander := s.dial()
				s.until("the bystander is there", func() bool { return s.Open() == 1 })
				s.do(func() { bad = true })
				play(s)
				s.until("it is closed", func() bool { return s.Count().Closed == 1 })
				s.do(func() {
					bad = false
					at := slices.Index(called, where)
					for i, name := range called {
						if slices.Contains(called[:i], name) || i > at && name != "Closed" && how != "Wake" {
							t.Errorf("called %v", called)
						}
					}
					if called[len(called)-1] != "Closed" {
						t.Errorf("called %v", called)
					}
					panics := 0
					if how == "panic" || how == "Close, then panic" {
						panics = 1
					}
					if n := s.Count(); n.Panics != uint64(panics) || told != panics || n.Open != 1 {
						t.Errorf("told of %d, counted %+v", told, n)
					}
				})
				_ = bystander.CloseWrite()
				if got, err := io.ReadAll(bystander); err != nil || string(got) != "ended" {
					t.Errorf("another connection got %q, error %v", got, err)
				}
			})
		}
	}
}

// use does to a closed connection what a handler might.
func use(c *eventloop.Conn) {
	c.Write([]byte("late"))
	c.Commit(append(c.Reserve(4), "late"...))
	c.WriteStatic([]byte("late"))
	fd, _ := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	c.SendFile(fd, 0, 4)
	c.SetTimeout(1)
	c.Finish(true)
	c.Wake()
	if c.Congested() || !c.Finishing() {
		panic("a closed connection is finishing and never congested")
	}
}

// Closed panics whoever closes the connection: the descriptor comes back (serve
// counts them) and the counters agree.
func TestClosedPanics(t *testing.T) {
	s := one(t, &calls{closed: func(*eventloop.Conn) { panic("in Closed") }})
	a, b := s.dial(), s.dial()
	s.until("both are open", func() bool { return s.Open() == 2 })
	reset(a)
	s.until("one is closed", func() bool { return s.Open() == 1 })
	s.do(func() {
		s.Drain()
		s.Cut()
	})
	_, _ = io.Copy(io.Discard, b)
	if n := s.count(); n.Panics != 2 || n.Open != 0 || n.Closed != 2 || n.Cut != 1 || n.Finished != 0 {
		t.Errorf("counted %+v", n)
	}
}

// Copied bytes, static ones and files leave in the order in which they were
// queued, however slowly the peer takes them.
func TestOutputOrder(t *testing.T) {
	file := pattern(7, 3<<20)
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, file, 0o600); err != nil {
		t.Fatal(err)
	}
	static := pattern(8, 3<<20)
	for seed := range uint64(12) {
		r := rand.New(rand.NewPCG(seed, 0))
		size := func() int { return 1 + r.IntN(1<<(1+r.IntN(21))) }
		var want []byte
		var steps []func(c *eventloop.Conn)
		for range 20 {
			head, body, off, kind := pattern(r.Uint64(), size()), size(), r.IntN(1<<20), r.IntN(5)
			if kind != 0 {
				want = append(want, head...)
			}
			switch kind {
			case 0, 1:
				want = append(want, static[off:off+body]...)
			case 2, 3:
				want = append(want, file[off:off+body]...)
			case 4:
				want = append(want, 's')
			}
			steps = append(steps, func(c *eventloop.Conn) {
				if half := len(head) / 2; kind != 0 {
					c.Write(head[:half])
					c.Commit(append(c.Reserve(len(head)-half), head[half:]...))
				}
				switch kind {
				case 0, 1:
					c.WriteStatic(static[off : off+body])
				case 2, 3:
					fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
					if err != nil {
						t.Error(err)
					}
					c.SendFile(fd, int64(off), int64(body))
				case 4:
					c.WriteStatic([]byte("s"))
				}
				if !c.Congested() {
					t.Error("more could be queued behind a tail")
				}
			})
		}
		flushed := 0
		s := one(t, &calls{
			received: func(c *eventloop.Conn, in []byte) int {
				steps[0](c)
				return len(in)
			},
			flushed: func(c *eventloop.Conn) {
				if flushed++; flushed < len(steps) {
					steps[flushed](c)
				} else {
					c.Finish(false)
				}
			},
		})
		c := s.dial()
		_ = c.SetReadBuffer(1 << 17)
		_, _ = c.Write([]byte("x"))
		var got []byte
		for p := make([]byte, 1<<18); ; {
			n, err := c.Read(p[:size()%len(p)+1])
			if got = append(got, p[:n]...); err != nil {
				break
			}
		}
		if !bytes.Equal(got, want) {
			t.Errorf("seed %d: %d bytes of %d, or others", seed, len(got), len(want))
		}
		s.do(func() {
			if flushed != len(steps) {
				t.Errorf("seed %d: Flushed was called %d times for %d tails", seed, flushed, len(steps))
			}
		})
	}
}

// What is queued behind a tail would be sent before it.
func TestQueueBehindTailPanics(t *testing.T) {
	for name, f := range map[string]func(*eventloop.Conn){
		"Write":       func(c *eventloop.Conn) { c.Write([]byte("x")) },
		"Reserve":     func(c *eventloop.Conn) { c.Reserve(1) },
		"WriteStatic": func(c *eventloop.Conn) { c.WriteStatic([]byte("x")) },
		"SendFile": func(c *eventloop.Conn) {
			fd, _ := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
			c.SendFile(fd, 0, 1)
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := one(t, &calls{received: func(c *eventloop.Conn, in []byte) int {
				c.WriteStatic([]byte("tail"))
				f(c)
				return len(in)
			}})
			c := s.dial()
			_, _ = c.Write([]byte("x"))
			_, _ = io.Copy(io.Discard, c)
			if n := s.count(); n.Panics != 1 || n.Open != 0 {
				t.Errorf("counted %+v", n)
			}
		})
	}
}

func TestSendFileTooShort(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, make([]byte, 1000), 0o600); err != nil {
		t.Fatal(err)
	}
	s := one(t, &calls{
		received: func(c *eventloop.Conn, in []byte) int {
			fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
			if err != nil {
				t.Error(err)
			}
			c.Write([]byte("head"))
			c.SendFile(fd, 0, 2000)
			return len(in)
		},
		flushed: func(*eventloop.Conn) { t.Error("Flushed was called") },
	})
	c := s.dial()
	_, _ = c.Write([]byte("x"))
	if got, err := io.ReadAll(c); err != nil || len(got) != 1004 {
		t.Errorf("%d bytes, error %v", len(got), err)
	}
}

// frames is a handler of messages that begin with their length; f is called with
// each and returns whether to go on.
func frames(f func(c *eventloop.Conn, message []byte) bool) *calls {
	return &calls{received: func(c *eventloop.Conn, in []byte) (n int) {
		for len(in)-n >= 2 {
			size := 2 + int(binary.BigEndian.Uint16(in[n:]))
			if len(in)-n < size {
				break
			}
			n += size
			if !f(c, in[n-size+2:n]) {
				break
			}
		}
		return n
	}}
}

func frame(p []byte) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(p))), p...)
}

// A message is the same wherever the network splits it.
func TestInputSplitAnywhere(t *testing.T) {
	var stream []byte
	for i := range 6 {
		stream = append(stream, frame(pattern(uint64(i), i*9))...)
	}
	var got []byte
	s := one(t, frames(func(c *eventloop.Conn, m []byte) bool {
		got = append(got, frame(m)...)
		return true
	}))
	for first := range len(stream) {
		c := s.dial()
		before := s.count().BytesIn
		_, _ = c.Write(stream[:first])
		s.until("the first part is read", func() bool { return s.Count().BytesIn == before+uint64(first) })
		second := first + (len(stream)-first)/2
		_, _ = c.Write(stream[first:second])
		s.until("the second part is read", func() bool { return s.Count().BytesIn == before+uint64(second) })
		_, _ = c.Write(stream[second:])
		_ = c.CloseWrite()
		s.until("it is closed", func() bool { return s.Open() == 0 })
		s.do(func() {
			if !bytes.Equal(got, stream) {
				t.Errorf("split at %d and %d: messages differ", first, second)
			}
			got = nil
		})
	}
}

// A handler that stops because of Congested gets the rest as soon as its output
// has gone, without another event.
func TestCongestedIsPresentedAgain(t *testing.T) {
	const messages = 200
	answer := pattern(3, 20<<10)
	for _, tail := range []bool{false, true} {
		t.Run(fmt.Sprintf("tail=%v", tail), func(t *testing.T) {
			s := one(t, frames(func(c *eventloop.Conn, m []byte) bool {
				if c.Congested() {
					t.Error("called though congested")
				}
				if tail {
					c.WriteStatic(answer)
				} else {
					c.Write(answer)
				}
				return !c.Congested()
			}))
			c := s.dial()
			go func() { _, _ = c.Write(bytes.Repeat(frame(make([]byte, 100)), messages)) }()
			got := make([]byte, messages*len(answer))
			if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, bytes.Repeat(answer, messages)) {
				t.Errorf("answers differ, error %v", err)
			}
		})
	}
}

// Finish is the end of input, even of what a congested handler left.
func TestFinishDropsInput(t *testing.T) {
	received := 0
	s := one(t, &calls{
		received: func(c *eventloop.Conn, _ []byte) int {
			received++
			c.WriteStatic(make([]byte, 1000))
			return 1
		},
		flushed: func(c *eventloop.Conn) { c.Finish(true) },
	})
	c := s.dial()
	_, _ = c.Write([]byte("two"))
	if got, err := io.ReadAll(c); err != nil || len(got) != 1000 {
		t.Errorf("%d bytes, error %v", len(got), err)
	}
	s.do(func() {
		if received != 1 {
			t.Errorf("Received was called %d times", received)
		}
	})
}

// A connection that is finished with input unread lingers: close(2) would send
// RST and destroy the answer.
func TestFinishLingers(t *testing.T) {
	answer := pattern(4, 1<<20)
	var conn *eventloop.Conn
	s := one(t, &calls{received: func(c *eventloop.Conn, in []byte) int {
		conn = c
		c.Write(answer)
		c.Finish(true)
		return 0
	}})
	c := s.dial()
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		_, _ = c.Write(make([]byte, 4<<20))
	}()
	got, err := io.ReadAll(c)
	if err != nil || !bytes.Equal(got, answer) {
		t.Errorf("%d bytes of %d, error %v", len(got), len(answer), err)
	}
	<-sent
	s.do(func() {
		if s.Open() != 1 || !conn.Lingering() {
			t.Error("it doesn't linger")
		}
	})
	c.Close()
	s.until("it is closed", func() bool { return s.Open() == 0 })
}

func TestMessageTooLarge(t *testing.T) {
	for _, size := range []int{4095, 4096, 4097, 100000} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			kept := 0
			s := serve(t, config{
				Options: eventloop.Options{MaxMessage: 4096},
				handler: func(*eventloop.Loop) eventloop.Handler {
					return &calls{received: func(_ *eventloop.Conn, in []byte) int {
						kept = len(in)
						return 0
					}}
				},
			})
			c := s.dial()
			_, _ = c.Write(make([]byte, size))
			if size <= 4096 {
				s.until("all is kept", func() bool { return kept == size })
				s.do(func() {
					if s.Open() != 1 {
						t.Error("it was closed")
					}
				})
				return
			}
			s.until("it is closed", func() bool { return s.Count().Closed == 1 })
			s.do(func() {
				if kept > 4096 {
					t.Errorf("%d bytes were presented", kept)
				}
			})
		})
	}
}

// Opened may speak first, and more than the socket takes.
func TestServerSpeaksFirst(t *testing.T) {
	banner := pattern(5, 16<<20)
	s := one(t, &calls{opened: func(c *eventloop.Conn) {
		c.Write([]byte("hello"))
		c.WriteStatic(banner)
		c.Finish(false)
	}})
	c := s.dial()
	if got, err := io.ReadAll(c); err != nil || !bytes.Equal(got, append([]byte("hello"), banner...)) {
		t.Errorf("%d bytes, error %v", len(got), err)
	}
	c.Close()
}

func TestRemote(t *testing.T) {
	remote := ""
	note := &calls{
		received: echoes,
		closed:   func(c *eventloop.Conn) { remote = c.Remote().String() }, // for an access log
	}
	s := one(t, note)
	c := s.dial()
	ping(t, c)
	_ = c.CloseWrite()
	_, _ = io.ReadAll(c)
	s.do(func() {
		if remote != c.LocalAddr().String() {
			t.Errorf("remote is %q", remote)
		}
	})
}
