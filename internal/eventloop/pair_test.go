package eventloop_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"reuseportd/internal/eventloop"
)

// Bytes go both ways, copied and spliced, and each side's end is the other's.
func TestPair(t *testing.T) {
	for _, size := range []int{0, 1, 100, 64 << 10, 64<<10 + 1, 300 << 10, 8 << 20} {
		s, client, far := proxied(t)
		p := pattern(1, size)
		if got := through(t, client, far, p); !bytes.Equal(got, p) {
			t.Errorf("%d bytes: the server got %d, or others", size, len(got))
		}
		if got := through(t, far, client, p); !bytes.Equal(got, p) {
			t.Errorf("%d bytes: the client got %d, or others", size, len(got))
		}
		s.until("both are closed", func() bool { return s.Open() == 0 })
		if n := s.count(); n.BytesIn != uint64(size) || n.UpstreamOut != uint64(size) || n.UpstreamIn != uint64(size) || n.BytesOut != uint64(size) || n.Closed != 1 || n.Cut != 0 {
			t.Errorf("%d bytes: counted %+v", size, n)
		}
	}
}

// Many bytes go both ways at once, and one way while the other is stuck.
func TestPairBothWays(t *testing.T) {
	s, client, far := proxied(t)
	a, b := pattern(1, 20<<20), pattern(2, 20<<20)
	go func() {
		_, _ = far.Write(b)
		_ = far.CloseWrite()
	}()
	back := make(chan []byte)
	if got := through(t, client, far, a); !bytes.Equal(got, a) {
		t.Errorf("the server got %d bytes, or others", len(got))
	}
	go func() {
		got, _ := io.ReadAll(client)
		back <- got
	}()
	if got := <-back; !bytes.Equal(got, b) {
		t.Errorf("the client got %d bytes, or others", len(got))
	}
	s.until("both are closed", func() bool { return s.Open() == 0 })
}

// What one side doesn't take stops the reading of the other, whether copied or
// spliced; nothing is lost by it, and the loop rests.
func TestPairPressure(t *testing.T) {
	s, client, far := proxied(t)
	const size = 64 << 20
	done := make(chan error, 1)
	go func() {
		_, err := client.Write(make([]byte, size))
		_ = client.CloseWrite()
		done <- err
	}()
	var in uint64
	turns := uint64(0)
	s.until("it rests", func() bool {
		c := s.Count()
		still := c.BytesIn == in && in > 0 && c.Turns < turns+100
		if c.BytesIn != in {
			in, turns = c.BytesIn, c.Turns
		}
		return still && c.Turns > turns+50
	})
	if in >= size {
		t.Fatalf("%d bytes were read while nobody took them", in)
	}
	n, err := io.Copy(io.Discard, far)
	if err != nil || n != size || <-done != nil {
		t.Errorf("%d bytes came, %v", n, err)
	}
}

// A reset at one side is a reset at the other.
func TestPairReset(t *testing.T) {
	for _, byClient := range []bool{true, false} {
		s, client, far := proxied(t)
		one, other := client, far
		if !byClient {
			one, other = far, client
		}
		_, _ = one.Write([]byte("x"))
		if _, err := io.ReadFull(other, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		reset(one)
		if _, err := other.Read(make([]byte, 1)); !errors.Is(err, unix.ECONNRESET) {
			t.Errorf("byClient=%v: the other side reads: %v", byClient, err)
		}
		s.until("both are closed", func() bool { return s.Open() == 0 })
	}
}

// A client that breaks off while the server doesn't take what it sent is not waited for.
func TestPairResetUnderPressure(t *testing.T) {
	s, client, far := proxied(t)
	go func() { _, _ = client.Write(make([]byte, 64<<20)) }()
	s.until("the client waits", s.ClientWaits)
	reset(client)
	s.until("both are closed", func() bool { return s.Open() == 0 })
	if _, err := io.Copy(io.Discard, far); !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("the server reads: %v", err)
	}
}

// A connect that fails, at once or later, is told with its reason.
func TestDialFails(t *testing.T) {
	b := newBackend(t)
	refused := b.addr
	b.Close()
	nowhere, err := eventloop.UnixAddress(t.TempDir() + "/nobody")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		to   eventloop.Address
		want unix.Errno
	}{{refused, unix.ECONNREFUSED}, {nowhere, unix.ENOENT}} {
		told := make(chan unix.Errno, 1)
		s := serve(t, config{handler: func(l *eventloop.Loop) eventloop.Handler {
			return proxy(l, &c.to, func(e unix.Errno) { told <- e })
		}})
		client := s.dial()
		if _, err := client.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("%s: the client reads: %v", c.to.String(), err)
		}
		if e := <-told; e != c.want {
			t.Errorf("%s: told of %v, want %v", c.to.String(), e, c.want)
		}
		s.until("nothing is left", func() bool { return s.Open() == 0 })
	}
}

// A connect to a server whose queue is full waits for its timeout.
func TestDialTimesOut(t *testing.T) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}), unix.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	to := eventloop.AddressOf(netip.MustParseAddrPort(address(t, fd)))
	fill, err := net.Dial("tcp", to.String()) // the queue's one place
	if err != nil {
		t.Fatal(err)
	}
	defer fill.Close()
	closed := make(chan bool, 1)
	s := serve(t, config{handler: func(l *eventloop.Loop) eventloop.Handler { return &calls{} }})
	s.do(func() {
		us := s.NewService(&calls{
			timedOut: func(c *eventloop.Conn) { c.Close() },
			closed:   func(c *eventloop.Conn) { closed <- c.Connecting() },
		}, 0)
		u, err := s.Dial(us, &to)
		if err != nil {
			t.Error(err)
			return
		}
		u.SetTimeout(s.Class(20 * time.Millisecond))
	})
	if !<-closed {
		t.Error("it was connected")
	}
}

// A number of bytes is passed, what follows is the handler's again.
func TestPassSome(t *testing.T) {
	for _, size := range []int{1, 10, 64 << 10, 3 << 20} {
		for _, together := range []bool{true, false} {
			b := newBackend(t)
			type seen struct {
				rest []byte
				left int64
			}
			got := make(chan seen, 1)
			s := serve(t, config{handler: func(l *eventloop.Loop) eventloop.Handler {
				us := l.NewService(&calls{}, 0)
				h := &passer{}
				h.opened = func(c *eventloop.Conn) {
					c.Hold()
					u, err := l.Dial(us, &b.addr)
					if err != nil {
						t.Error(err)
						return
					}
					l.Join(c, u)
				}
				h.received = func(c *eventloop.Conn, in []byte) int {
					if string(in[:1]) == "<" {
						c.Pass(c.Partner(), int64(size))
						return 1
					}
					if len(in) < 4 {
						return 0
					}
					got <- seen{bytes.Clone(in), c.Passing()}
					return len(in)
				}
				h.passed = func(c *eventloop.Conn) { h.n++ }
				return h
			}})
			client := s.dial()
			far := b.accept(t)
			s.until("it is connected", func() bool { return s.Open() == 2 })
			s.do(func() { s.release() })
			p := pattern(3, size)
			stream := append(append([]byte("<"), p...), "rest"...)
			if together {
				go client.Write(stream)
			} else {
				go func() {
					_, _ = client.Write(stream[:1])
					_, _ = client.Write(stream[1 : 1+size])
					_, _ = client.Write(stream[1+size:])
				}()
			}
			r := make([]byte, size)
			if _, err := io.ReadFull(far, r); err != nil || !bytes.Equal(r, p) {
				t.Errorf("%d bytes: %v, or others came", size, err)
			}
			if g := <-got; string(g.rest) != "rest" || g.left != 0 {
				t.Errorf("%d bytes: then %q with %d left", size, g.rest, g.left)
			}
			s.do(s.Cut)
		}
	}
}

// passer is a handler that passes a number of bytes.
type passer struct {
	calls
	passed func(*eventloop.Conn)
	n      int
}

func (p *passer) Passed(c *eventloop.Conn) { p.passed(c) }

// release ends Hold for every connection.
func (s *server) release() {
	for fd := range 1 << 10 {
		if c := s.Find(fd); c != nil && !c.Outgoing() {
			c.Release()
		}
	}
}

// An idle pair costs little.
func TestPairMemory(t *testing.T) {
	if per := 2*eventloop.ConnSize + 2*eventloop.TieSize; per > 400 {
		t.Errorf("a pair takes %d bytes", per)
	}
}
