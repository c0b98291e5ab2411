package eventloop_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"reuseportd/internal/eventloop"
)

// sealedServer is a server of one handler, all of whose connections have the tests' transport.
func sealedServer(t testing.TB, record int, o eventloop.Options, h eventloop.Handler) (*server, *xors) {
	t.Helper()
	x := &xors{t: t, record: record}
	s := serve(t, config{Options: o, manual: true, handler: func(*eventloop.Loop) eventloop.Handler { return h }})
	s.listenSealed(x)
	t.Cleanup(func() {
		s.do(s.Cut)
		s.do(func() {
			if x.made != 0 {
				t.Errorf("%d transports were not freed", x.made)
			}
		})
	})
	return s, x
}

func (s *server) listenSealed(x *xors) {
	s.t.Helper()
	s.do(func() {
		s.service.SetTransports(x, 0)
		var err error
		if s.ln, err = s.Listen(s.fd, s.service, eventloop.Sharing{}); err != nil {
			s.t.Error(err)
		}
	})
}

// echoed sends bytes and their end, and checks that they come back, and their end.
func echoed(t *testing.T, c *peer, p []byte) {
	t.Helper()
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		_, _ = c.Write(p)
		_ = c.CloseWrite()
	}()
	got, err := io.ReadAll(c)
	<-sent
	if err != nil || !bytes.Equal(got, p) {
		t.Errorf("sent %d bytes, got %d, error %v", len(p), len(got), err)
	}
}

// What is written comes out of records as it went in, whatever their size and that of the loop's reads; the end is
// said before the socket's.
func TestSealedEcho(t *testing.T) {
	for _, record := range []int{1, 1000, eventloop.MaxRecord} {
		for _, most := range []int{100, 0} {
			for _, size := range []int{0, 1, 5000, 300 << 10} {
				if record == 1 && size > 5000 {
					continue
				}
				t.Run(fmt.Sprintf("records of %d, reads of %d, %d bytes", record, most, size), func(t *testing.T) {
					s, _ := sealedServer(t, record, eventloop.Options{MaxMessage: most}, &calls{received: echoes})
					echoed(t, shaken(t, s.dial(), false, record), pattern(1, size))
				})
			}
		}
	}
}

// A handler knows of a connection when the handshake is done, however it comes; what came behind that is its input.
func TestSealedHandshake(t *testing.T) {
	var order []string
	note := func(what string) func(*eventloop.Conn) {
		return func(*eventloop.Conn) { order = append(order, what) }
	}
	s, _ := sealedServer(t, 1000, eventloop.Options{}, &calls{
		opened: note("opened"), closed: note("closed"),
		received: func(c *eventloop.Conn, in []byte) int {
			order = append(order, "received "+string(in))
			return echoes(c, in)
		},
	})
	p := &peer{record: 1000}
	p.out.key = 'c'
	whole := append([]byte(xorHello+"c"), p.sealed([]byte("first"))...)
	for cut := range len(whole) + 1 {
		s.do(func() { order = nil })
		c := s.dial()
		_, _ = c.Write(whole[:cut])
		s.until("it is read", func() bool { return s.Only() != nil && s.Count().BytesIn == uint64(cut) })
		s.do(func() {
			if opened := cut > len(xorHello); opened != (len(order) > 0) || s.Only().Connecting() == opened {
				t.Errorf("behind %d bytes: %q", cut, order)
			}
			s.Count().BytesIn = 0
		})
		_, _ = c.Write(whole[cut:])
		got := make([]byte, len(xorAnswer)+1+xorHead+len("first"))
		if _, err := io.ReadFull(c, got); err != nil {
			t.Fatal(err)
		}
		reset(c)
		s.until("it is closed", func() bool { return s.Open() == 0 })
		s.do(func() {
			if fmt.Sprint(order) != "[opened received first closed]" {
				t.Errorf("cut at %d: %q", cut, order)
			}
			s.Count().BytesIn = 0
		})
	}
}

// A handshake that fails, or takes too long, or whose client goes, is none of the handler's business.
func TestSealedHandshakeFails(t *testing.T) {
	h := &calls{
		opened: func(*eventloop.Conn) { t.Error("opened") },
		closed: func(*eventloop.Conn) { t.Error("closed") },
	}
	s, x := sealedServer(t, 1000, eventloop.Options{}, h)
	c := s.dial()
	_, _ = c.Write([]byte("nonsense"))
	if got, _ := io.ReadAll(c); string(got) != xorAlert {
		t.Errorf("got %q", got)
	}
	c = s.dial()
	_, _ = c.Write([]byte("hel"))
	s.until("it has begun", func() bool { return s.Only() != nil && s.Only().Connecting() })
	c.Close()
	s.until("it is closed", func() bool { return s.Open() == 0 })
	s.do(func() { s.service.SetTransports(x, s.Class(time.Millisecond)) })
	if got, err := io.ReadAll(s.dial()); len(got) != 0 || err != nil {
		t.Errorf("got %q, error %v", got, err)
	}
}

// A record that can't be opened ends the connection, behind the transport's word. An end without a word can be told
// from one with.
func TestSealedEnds(t *testing.T) {
	var ends []bool
	s, _ := sealedServer(t, 1000, eventloop.Options{}, &calls{
		received: echoes,
		ended: func(c *eventloop.Conn) {
			ends = append(ends, c.Truncated())
			c.Finish(false)
		},
	})
	p := shaken(t, s.dial(), false, 1000)
	p.out.seq++
	_, _ = p.TCPConn.Write(p.sealed([]byte("x")))
	if got, _ := io.ReadAll(p.TCPConn); string(got) != xorAlert {
		t.Errorf("got %q", got)
	}
	p = shaken(t, s.dial(), false, 1000)
	half := p.sealed([]byte("half a record"))
	_, _ = p.TCPConn.Write(half[:7])
	_ = p.TCPConn.CloseWrite()
	_, _ = io.ReadAll(p)
	echoed(t, shaken(t, s.dial(), false, 1000), []byte("whole"))
	s.do(func() {
		if fmt.Sprint(ends) != "[true false]" {
			t.Errorf("truncated: %v", ends)
		}
	})
}

// Bytes, a tail that isn't copied and a file are sealed in their order, and back-pressure holds them.
func TestSealedAnswers(t *testing.T) {
	const size = 3 << 20
	name := filepath.Join(t.TempDir(), "file")
	file := pattern(3, size)
	if err := os.WriteFile(name, file, 0o600); err != nil {
		t.Fatal(err)
	}
	head, tail := pattern(1, 70<<10), pattern(2, size)
	step := 0
	var conn *eventloop.Conn
	s, _ := sealedServer(t, 5000, eventloop.Options{}, &calls{
		received: func(c *eventloop.Conn, in []byte) int {
			conn = c
			c.Commit(append(c.Reserve(len(head)), head...))
			c.WriteStatic(tail)
			return len(in)
		},
		flushed: func(c *eventloop.Conn) {
			if step++; step > 1 {
				c.Finish(true)
				return
			}
			fd, err := unix.Open(name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
			if err != nil {
				t.Error(err)
			}
			c.Write([]byte("file:"))
			c.SendFile(fd, 10, size-10)
		},
	})
	p := shaken(t, s.dial(), false, 1000)
	_, _ = p.Write([]byte("go"))
	s.until("output is blocked", func() bool { return conn != nil && conn.Blocked() })
	want := bytes.Join([][]byte{head, tail, []byte("file:"), file[10:]}, nil)
	got, err := io.ReadAll(p)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("got %d bytes, want %d, error %v", len(got), len(want), err)
	}
}

// end is what both kinds of connections are to a test.
type end interface {
	io.ReadWriter
	CloseWrite() error
}

// Bytes that are passed go through the transports of both connections, in any of the four ways, with each half's end, and
// while neither side is read.
func TestSealedPass(t *testing.T) {
	for _, inside := range []bool{false, true} {
		for _, outside := range []bool{false, true} {
			for _, size := range []int{0, 1000, 20 << 20} {
				t.Run(fmt.Sprintf("client sealed=%v, server sealed=%v, %d bytes", outside, inside, size), func(t *testing.T) {
					b := newBackend(t)
					s := serve(t, config{manual: true, handler: func(l *eventloop.Loop) eventloop.Handler {
						return proxy(l, &b.addr, func(e unix.Errno) { t.Errorf("connect: %v", e) })
					}})
					x := &xors{t: t, record: 3000}
					s.do(func() {
						if inside {
							upstreams[s.Loop].SetTransports(x, 0)
						}
						if outside {
							s.service.SetTransports(x, 0)
						}
						s.ln, _ = s.Listen(s.fd, s.service, eventloop.Sharing{})
					})
					t.Cleanup(func() { s.do(s.Cut) })
					var client, far end = s.dial(), nil
					if outside {
						client = shaken(t, client.(*tcp), false, 3000)
					}
					if far = b.accept(t); inside {
						far = shaken(t, far.(*tcp), true, 3000)
					}
					up, down := pattern(1, size), pattern(2, size)
					send := func(c end, p []byte) {
						_, _ = c.Write(p)
						_ = c.CloseWrite()
					}
					go send(client, up)
					go send(far, down)
					got := make(chan []byte)
					go func() {
						p, _ := io.ReadAll(far)
						got <- p
					}()
					p, err := io.ReadAll(client)
					if err != nil || !bytes.Equal(p, down) {
						t.Errorf("the client got %d bytes, error %v", len(p), err)
					}
					if p := <-got; !bytes.Equal(p, up) {
						t.Errorf("the server got %d bytes", len(p))
					}
				})
			}
		}
	}
}

// What is passed is all of it only if its end has the transport's word: without, the other side is told that something is
// missing, behind what there was.
func TestSealedPassTruncated(t *testing.T) {
	for _, word := range []bool{false, true} {
		b := newBackend(t)
		s := serve(t, config{manual: true, handler: func(l *eventloop.Loop) eventloop.Handler {
			return proxy(l, &b.addr, func(e unix.Errno) { t.Errorf("connect: %v", e) })
		}})
		s.listenSealed(&xors{t: t, record: 3000})
		client := shaken(t, s.dial(), false, 3000)
		far := b.accept(t)
		_, _ = client.Write([]byte("a part"))
		got := make([]byte, 6)
		if _, err := io.ReadFull(far, got); err != nil || string(got) != "a part" {
			t.Errorf("got %q, error %v", got, err)
		}
		if word {
			_ = client.CloseWrite()
		} else {
			_ = client.TCPConn.CloseWrite()
		}
		if _, err := far.Read(make([]byte, 1)); errors.Is(err, io.EOF) != word {
			t.Errorf("with a word: %v; the end is %v", word, err)
		}
		s.do(s.Cut)
	}
}

// Handshakes are dear, and come behind what those that are open have to say.
func TestHandshakesStarveNobody(t *testing.T) {
	const open, fresh = 100, 400
	shaken, answered, before := 0, 0, 0
	s, x := sealedServer(t, 1000, eventloop.Options{}, &calls{received: func(c *eventloop.Conn, in []byte) int {
		if answered++; answered == open {
			before = shaken
		}
		return echoes(c, in)
	}})
	var clients []*peer
	for range open {
		clients = append(clients, shakenPeer(t, s))
	}
	release := s.hold(func() {
		x.shook = func() {
			shaken++
			for began := time.Now(); time.Since(began) < time.Millisecond; { // it computes
			}
		}
	})
	var more []*tcp
	for range fresh {
		c := s.dial()
		_, _ = c.Write([]byte(xorHello + "c"))
		more = append(more, c)
	}
	for _, c := range clients {
		_, _ = c.Write([]byte("x"))
	}
	release()
	for _, c := range clients {
		if _, err := c.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range more {
		if _, err := io.ReadFull(c, make([]byte, len(xorAnswer)+1)); err != nil {
			t.Fatal(err)
		}
	}
	s.do(func() {
		if before > open {
			t.Errorf("%d handshakes were made before %d open connections had an answer", before, open)
		}
	})
}

func shakenPeer(t *testing.T, s *server) *peer { return shaken(t, s.dial(), false, 1000) }

// Handshakes are shed like half messages: what has come of them is their clients' to finish.
func TestShedsHandshakes(t *testing.T) {
	mem := new(eventloop.Memory)
	mem.SetBound(1 << 20)
	s, x := sealedServer(t, 1000, eventloop.Options{Memory: mem}, &calls{
		opened: func(*eventloop.Conn) { t.Error("opened") }, closed: func(*eventloop.Conn) { t.Error("closed") },
	})
	s.do(func() { x.least = 60 << 10 })
	const clients = 100
	for range clients {
		send(t, s.dial(), xorHello+strings.Repeat("x", 30<<10))
	}
	s.until("enough are shed", func() bool { return s.Count().ShedHeads >= clients-(1<<20)/(30<<10) })
	s.do(func() {
		if n := s.Lent(); n > 1<<20 {
			t.Errorf("%d bytes are lent of %d", n, 1<<20)
		}
	})
}

// A client whose idle connection is wanted for others is told that nothing is missing.
func TestSealedIdleIsToldOfItsEnd(t *testing.T) {
	mem := new(eventloop.Memory)
	s, _ := sealedServer(t, 1000, eventloop.Options{Memory: mem}, &calls{received: echoes})
	p := shaken(t, s.dial(), false, 1000)
	_, _ = p.Write([]byte("x"))
	if _, err := p.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	mem.SetBound(1)
	s.until("it is shed", func() bool { return s.Count().ShedIdle == 1 }) // not in the turn in which it is read
	if got, err := io.ReadAll(p); len(got) > 0 || err != nil {
		t.Errorf("got %q, error %v", got, err)
	}
}

// A connection goes on elsewhere with its transport: with half a record read, records that were read and not opened, bytes
// that were opened and not presented, output that is sealed and output that isn't.
func TestMoveSealed(t *testing.T) {
	const size = 8 << 20
	for _, back := range []bool{false, true} {
		t.Run(fmt.Sprintf("back=%v", back), func(t *testing.T) {
			most := 1 << 10
			// Options are the same in both loops: reads that are smaller than records leave opened bytes behind.
			o := config{manual: true, Options: eventloop.Options{MaxMessage: most}, handler: func(*eventloop.Loop) eventloop.Handler {
				return &mover{calls: calls{received: echoes}}
			}}
			from, to := serve(t, o), serve(t, o)
			x, y := &xors{t: t, record: 5000}, &xors{t: t, record: 7000}
			from.listenSealed(x)
			to.listenSealed(y)
			for _, s := range []*server{from, to} {
				t.Cleanup(func() { s.do(s.Cut) })
			}
			p := shaken(t, from.dial(), false, 9000)
			data := pattern(1, size)
			sent := make(chan struct{})
			go func() {
				defer close(sent)
				b := p.sealed(data)
				_, _ = p.TCPConn.Write(b[:len(b)-3]) // …and half a record's end comes late
				_, _ = p.TCPConn.Write(b[len(b)-3:])
				_ = p.CloseWrite()
			}()
			from.until("output is blocked", func() bool { c := from.Only(); return c != nil && c.Blocked() })
			var d eventloop.Departure
			from.do(func() { from.DrainTo(func() {}) })
			from.do(func() {
				all := from.Depart(1)
				if len(all) != 1 {
					t.Fatalf("%d depart", len(all))
				}
				d = all[0]
				if d.Transport != xorKind || len(d.Sealed) == 0 || len(d.Cipher)+len(d.Opened) == 0 {
					t.Errorf("transport %d, %d bytes sealed, %d not opened, %d opened", d.Transport, len(d.Sealed), len(d.Cipher), len(d.Opened))
				}
			})
			if back {
				from.do(func() { from.Return(&d, false) })
			} else {
				parcel := carry(t, d.Parcel)
				var conn *eventloop.Conn
				to.do(func() {
					var err error
					if conn, err = to.Arrive(to.service, &parcel); err != nil {
						t.Fatal(err)
					}
				})
				from.do(func() { from.Departed(&d) })
				to.do(func() { to.Begin(conn) })
			}
			got, err := io.ReadAll(p)
			<-sent
			if err != nil || !bytes.Equal(got, data) {
				t.Errorf("got %d bytes of %d, error %v", len(got), len(data), err)
			}
			from.until("it is freed", func() bool { return from.Open() == 0 && x.made == 0 })
			to.until("it is freed", func() bool { return to.Open() == 0 && y.made == 0 })
		})
	}
}

// A transport that nobody has there, or of a kind that nobody knows, is refused, and stays where it is.
func TestMoveSealedRefused(t *testing.T) {
	s, _ := sealedServer(t, 1000, eventloop.Options{}, &mover{calls: calls{received: echoes}})
	plain := one(t, &mover{calls: calls{received: echoes}})
	for name, c := range map[string]struct {
		to *server
		p  eventloop.Parcel
	}{
		"no transport":     {plain, eventloop.Parcel{Transport: xorKind, Keys: make([]byte, 6)}},
		"another kind":     {s, eventloop.Parcel{Transport: xorKind + 1, Keys: make([]byte, 6)}},
		"other keys":       {s, eventloop.Parcel{Transport: xorKind, Keys: make([]byte, 5)}},
		"a plain one":      {s, eventloop.Parcel{Kind: "test"}},
		"bytes without it": {s, eventloop.Parcel{Sealed: []byte("x")}},
		"too many bytes":   {s, eventloop.Parcel{Transport: xorKind, Keys: make([]byte, 6), Cipher: make([]byte, 1<<20)}},
	} {
		c.p.FD, c.p.File = 900, -1
		c.to.do(func() {
			if _, err := c.to.Arrive(c.to.service, &c.p); err == nil {
				t.Errorf("%s: accepted", name)
			}
		})
	}
}

// The records of an open connection cost no allocation.
func TestAllocationsOfSealed(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector allocates")
	}
	s, _ := sealedServer(t, 1000, eventloop.Options{}, &calls{received: echoes})
	p := shaken(t, s.dial(), false, 1000)
	record, answer := make([]byte, 0, 100), make([]byte, xorHead+1)
	fd, err := p.TCPConn.File()
	if err != nil {
		t.Fatal(err)
	}
	defer fd.Close()
	raw := int(fd.Fd())
	_ = unix.SetNonblock(raw, false)
	each := testing.AllocsPerRun(2000, func() {
		record = p.out.seal(record[:0], []byte("x"))
		if _, err := unix.Write(raw, record); err != nil {
			t.Fatal(err)
		}
		for n := 0; n < len(answer); {
			k, err := unix.Read(raw, answer[n:])
			if err != nil || k == 0 {
				t.Fatal(k, err)
			}
			n += k
		}
	})
	if each > 0 {
		t.Errorf("%v allocations for each record", each)
	}
}
