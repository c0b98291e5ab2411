package tcp_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"reuseportd/internal/config"
	"reuseportd/internal/eventloop"
	"reuseportd/internal/upstream"
)

// A server that breaks off is seen to have, and what it had sent before is delivered,
// however slowly the client reads.
func TestServerResets(t *testing.T) {
	for _, size := range []int{0, 1, 100 << 10, 4 << 20} {
		sent := noise(size)
		written := make(chan int, 1)
		s := listen(t, "tcp", func(c net.Conn) {
			_ = c.(*net.TCPConn).SetWriteBuffer(64 << 10)
			n, _ := c.Write(sent)
			written <- n
			_, _ = c.Read(make([]byte, 1)) // the client has seen the first of it
			reset(c)
		})
		p := start(t, "tcp", nil, s.address())
		c := p.dial(t)
		if size > 0 {
			if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
		}
		if size >= 4<<20 {
			// The server can't write it all before we read.
			got, err := io.ReadAll(io.LimitReader(c, int64(size-1-(1<<20))))
			if err != nil || !bytes.Equal(got, sent[1:1+len(got)]) {
				t.Fatal(err)
			}
			<-written
			// Until the server's kernel has handed all of it over.
			p.waitFor(t, "taking all from the server", func(k eventloop.Counters) bool { return k.UpstreamIn == uint64(size) })
			_, _ = c.Write([]byte("x"))
			rest, err := io.ReadAll(c)
			if !errors.Is(err, unix.ECONNRESET) || len(got)+len(rest)+1 != size {
				t.Errorf("%d bytes of %d, then %v", len(got)+len(rest)+1, size, err)
			}
		} else {
			p.waitFor(t, "taking all from the server", func(k eventloop.Counters) bool { return k.UpstreamIn == uint64(size) })
			_, _ = c.Write([]byte("x"))
			got, err := io.ReadAll(c)
			if !errors.Is(err, unix.ECONNRESET) || len(got)+min(size, 1) != size {
				t.Errorf("%d bytes of %d, then %v", len(got)+min(size, 1), size, err)
			}
		}
		p.empty(t)
		if got := p.told(); !slices.Equal(got, []string{s.Addr().String() + " connection reset"}) {
			t.Errorf("told: %q", got)
		}
		if n := p.pool.sum().Failures[upstream.Reset]; n != 1 {
			t.Errorf("counted %d resets", n)
		}
	}
}

// A client that breaks off breaks its server's connection off, and no server is
// blamed.
func TestClientResets(t *testing.T) {
	seen := make(chan error, 1)
	s := listen(t, "tcp", func(c net.Conn) {
		_, err := io.Copy(io.Discard, c)
		seen <- err
	})
	p := start(t, "tcp", nil, s.address())
	c := p.dial(t)
	_, _ = c.Write(noise(100 << 10))
	p.waitFor(t, "passing", func(k eventloop.Counters) bool { return k.UpstreamOut == 100<<10 })
	reset(c)
	if err := <-seen; !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("the server saw %v", err)
	}
	p.empty(t)
	if got := p.told(); got != nil {
		t.Errorf("told: %q", got)
	}
}

// A server that answers early, and doesn't want the rest, breaks the connection off as we
// write to it: its answer reaches the client all the same.
func TestEarlyAnswer(t *testing.T) {
	sent := noise(50 << 10)
	got, answered := make(chan struct{}), make(chan struct{})
	answer := make(chan struct{})
	s := listen(t, "tcp", func(c net.Conn) {
		_, _ = io.ReadFull(c, make([]byte, 5))
		close(got)
		<-answer
		_, _ = c.Write(sent)
		allAcknowledged(t, c)
		reset(c)
		close(answered)
	})
	p := start(t, "tcp", nil, s.address())
	c := p.dial(t)
	_, _ = io.WriteString(c, "hello")
	<-got
	p.on(func() { // while the loop waits here, the client's bytes come first
		_, _ = c.Write(noise(100 << 10))
		close(answer)
		<-answered
	})
	if in, err := io.ReadAll(c); !bytes.Equal(in, sent) || !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("%d bytes of %d, then %v", len(in), len(sent), err)
	}
	p.empty(t)
}

// allAcknowledged waits until the peer's kernel has all that was written.
func allAcknowledged(t *testing.T, c net.Conn) {
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Error(err)
		return
	}
	for n := 1; n > 0; time.Sleep(100 * time.Microsecond) {
		_ = raw.Control(func(fd uintptr) { n, _ = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ) })
	}
}

// Half-closed, then broken off: the answer is not taken for a whole one.
func TestServerResetsAfterClientEnded(t *testing.T) {
	s := listen(t, "tcp", func(c net.Conn) {
		_, _ = io.Copy(io.Discard, c)
		_, _ = c.Write([]byte("half an ans"))
		allAcknowledged(t, c)
		reset(c)
	})
	p := start(t, "tcp", nil, s.address())
	c := p.dial(t)
	closeWrite(c)
	if got, err := io.ReadAll(c); string(got) != "half an ans" || !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("%q, then %v", got, err)
	}
	p.empty(t)
}

// The end of a drain cuts, and that is seen on both sides.
func TestCut(t *testing.T) {
	seen := make(chan error, 1)
	s := listen(t, "tcp", func(c net.Conn) {
		_, err := io.Copy(onlyWriter{c}, c)
		seen <- err
	})
	p := start(t, "tcp", nil, s.address())
	c := p.dial(t)
	hello(t, c)
	p.on(func() { p.Drain() })
	hello(t, c) // it goes on
	p.on(func() { p.Cut() })
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("the client saw %v", err)
	}
	if err := <-seen; !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("the server saw %v", err)
	}
	p.empty(t)
	p.on(func() {
		if k := p.Count(); k.Cut != 1 {
			t.Errorf("counted %+v", k)
		}
	})
}

const short = 80 * time.Millisecond

// A pair on which nothing moves is ended in order, and none on which something does.
func TestIdleTimeout(t *testing.T) {
	onNetworks(t, func(t *testing.T, client, server string) {
		p := start(t, client, func(c *config.TCP, _ *config.Upstream) { c.IdleTimeout = short }, listen(t, server, echo).address())
		c := p.dial(t)
		begin := time.Now()
		last, buf := begin, make([]byte, 5)
		for last.Sub(begin) < 2*short {
			next := time.Now()
			_, err := io.WriteString(c, "hello")
			if err == nil {
				_, err = io.ReadFull(c, buf)
			}
			if err != nil {
				if d := time.Since(last); d < short { // else this machine has no time for us
					t.Errorf("closed after %v", d)
				}
				return
			}
			last = next
			time.Sleep(short / 8)
		}
		if n, err := c.Read(buf); n != 0 || err != io.EOF {
			t.Errorf("%d, %v", n, err)
		}
		if d := time.Since(last); d < short {
			t.Errorf("closed after %v", d)
		}
		p.empty(t)
	})
}

// One direction is enough to keep a pair, and a reader that is slow moves. One that stops
// has not got all, and is to see that.
func TestIdleTimeoutOneWay(t *testing.T) {
	s := listen(t, "tcp", func(c net.Conn) {
		for block := noise(64 << 10); ; {
			if _, err := c.Write(block); err != nil {
				return
			}
		}
	})
	p := start(t, "tcp", func(c *config.TCP, _ *config.Upstream) { c.IdleTimeout = short }, s.address())
	c := p.dial(t)
	buf := make([]byte, 64<<10)
	begin := time.Now()
	for last := begin; last.Sub(begin) < 4*short; time.Sleep(short / 8) {
		next := time.Now()
		if _, err := io.ReadFull(c, buf); err != nil {
			if d := time.Since(last); d < short {
				t.Errorf("closed after %v: %v", d, err)
			}
			return
		}
		last = next
	}
	p.empty(t)
	if _, err := io.Copy(io.Discard, c); !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("it ended with %v", err)
	}
}

// Both have ended, and one doesn't take the rest: that isn't waited for for ever.
func TestNobodyTakesTheRest(t *testing.T) {
	sent := noise(8 << 20)
	s := listen(t, "tcp", func(c net.Conn) { _, _ = c.Write(sent) })
	p := start(t, "tcp", func(c *config.TCP, _ *config.Upstream) { c.IdleTimeout = short }, s.address())
	c := p.dial(t)
	closeWrite(c)
	p.waitFor(t, "a pair", func(k eventloop.Counters) bool { return k.UpstreamIn > 0 })
	p.empty(t)
}

func TestTotalTimeout(t *testing.T) {
	s := listen(t, "tcp", echo)
	p := start(t, "tcp", func(c *config.TCP, _ *config.Upstream) { c.TotalTimeout = short }, s.address())
	begin := time.Now()
	c := p.dial(t)
	var err error
	for err == nil {
		if _, err = io.WriteString(c, "hello"); err == nil {
			_, err = io.ReadFull(c, make([]byte, 5))
		}
	}
	if d := time.Since(begin); d < short {
		t.Errorf("cut after %v", d)
	}
	p.empty(t)
	p.on(func() {
		if k := p.Count(); k.Cut != 1 {
			t.Errorf("counted %+v", k)
		}
	})
	if got := p.told(); !slices.Equal(got, []string{s.Addr().String() + " total timeout"}) {
		t.Errorf("told: %q", got)
	}
}
