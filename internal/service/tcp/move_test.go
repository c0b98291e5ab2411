package tcp_test

import (
	"crypto/sha256"
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"reuseportd/internal/config"
	"reuseportd/internal/eventloop"
	"reuseportd/internal/service/proxyproto"
)

// carry is what a channel between two processes does to a parcel.
func carry(t testing.TB, p eventloop.Parcel) eventloop.Parcel {
	t.Helper()
	fd, err := unix.FcntlInt(uintptr(p.FD), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	p.FD = fd
	p.In, p.Out, p.State = slices.Clone(p.In), slices.Clone(p.Out), slices.Clone(p.State)
	if p.Partner != nil {
		partner := carry(t, *p.Partner)
		p.Partner = &partner
	}
	return p
}

// hand has another proxy go on with all of this one's connections; what it refuses stays.
// It returns how many moved.
func (p *proxy) hand(t testing.TB, to *proxy) (moved int, refused error) {
	t.Helper()
	var ds []eventloop.Departure
	p.on(func() {
		p.DrainTo(nil)
		ds = p.Depart(1 << 20)
	})
	for i := range ds {
		parcel := carry(t, ds[i].Parcel)
		var c *eventloop.Conn
		var err error
		to.on(func() { c, err = to.Arrive(to.svc, &parcel) })
		if err != nil {
			refused = err
			for _, fd := range parcel.FDs() {
				_ = unix.Close(fd)
			}
			p.on(func() { p.Return(&ds[i], false) })
			continue
		}
		p.on(func() { p.Departed(&ds[i]) })
		to.on(func() { to.Begin(c) })
		moved++
	}
	return moved, refused
}

// two are proxies that serve the same.
func two(t testing.TB, network string, change func(*config.TCP, *config.Upstream), servers ...config.Server) (a, b *proxy) {
	t.Helper()
	return start(t, network, change, servers...), start(t, network, change, servers...)
}

// TestMoveIdle: a pair on which nothing moves goes on, is in use there and no longer here,
// and its timeouts run on.
func TestMoveIdle(t *testing.T) {
	onNetworks(t, func(t *testing.T, client, server string) {
		change := func(c *config.TCP, _ *config.Upstream) { c.IdleTimeout, c.TotalTimeout = time.Hour, time.Hour }
		a, b := two(t, client, change, listen(t, server, echo).address())
		c := a.dial(t)
		hello(t, c)
		if n, err := a.hand(t, b); n != 1 || err != nil {
			t.Fatal(n, err)
		}
		a.empty(t)
		if a.pool.inUse() != 0 || b.pool.inUse() != 1 {
			t.Errorf("in use: %d here, %d there", a.pool.inUse(), b.pool.inUse())
		}
		hello(t, c)
		closeWrite(c)
		if rest, err := io.ReadAll(c); len(rest) > 0 || err != nil {
			t.Errorf("%q, %v", rest, err)
		}
		b.empty(t)
		inA, outA := a.pool.bytes()
		inB, outB := b.pool.bytes()
		if inA != 5 || outA != 5 || inB != 5 || outB != 5 {
			t.Errorf("counted %d and %d bytes here, %d and %d there", inA, outA, inB, outB)
		}
	})
}

// TestMoveNotIdle: what moved between the last look and a handover counts.
func TestMoveNotIdle(t *testing.T) {
	a, b := two(t, "tcp", func(c *config.TCP, _ *config.Upstream) { c.IdleTimeout = short }, listen(t, "tcp", echo).address())
	c := a.dial(t)
	buf := make([]byte, 5)
	begin := time.Now()
	for last := begin; last.Sub(begin) < 4*short; time.Sleep(short / 16) {
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
		if _, err := a.hand(t, b); err != nil {
			t.Fatal(err)
		}
		a, b = b, a
	}
}

// TestMoveIdles: handovers don't put the idle timeout off, however many there are.
func TestMoveIdles(t *testing.T) {
	change := func(c *config.TCP, _ *config.Upstream) {
		c.IdleTimeout, c.Keepalive = short, &config.Keepalive{Idle: short / 16, Interval: time.Second, Count: 3}
	}
	a, b := two(t, "tcp", change, listen(t, "tcp", echo).address())
	c := a.dial(t)
	hello(t, c)
	closed := make(chan error, 1)
	go func() {
		_, err := c.Read(make([]byte, 1))
		closed <- err
	}()
	for end := time.Now().Add(20 * short); ; time.Sleep(short / 16) {
		select {
		case err := <-closed:
			if err != io.EOF {
				t.Error(err)
			}
			return
		default:
		}
		if time.Now().After(end) {
			t.Fatal("it is not closed")
		}
		if _, err := a.hand(t, b); err != nil {
			t.Fatal(err)
		}
		a, b = b, a
	}
}

// TestMoveUnderWay moves a pair again and again while much goes both ways.
func TestMoveUnderWay(t *testing.T) {
	onNetworks(t, func(t *testing.T, client, server string) {
		const size = 8 << 20
		up, down := noise(size), noise(size + 777)[777:]
		sums := make(chan [sha256.Size]byte, 1)
		s := listen(t, server, func(c net.Conn) {
			var wg sync.WaitGroup
			wg.Go(func() { _, _ = c.Write(down); closeWrite(c) })
			h := sha256.New()
			if _, err := io.Copy(h, c); err != nil {
				t.Error(err)
			}
			sums <- [sha256.Size]byte(h.Sum(nil))
			wg.Wait()
		})
		all := make([]*proxy, 12)
		for i := range all {
			all[i] = start(t, client, nil, s.address())
		}
		c := all[0].dial(t)
		var wg sync.WaitGroup
		wg.Go(func() { _, _ = c.Write(up); closeWrite(c) })
		h := sha256.New()
		got, at := 0, 0
		buf := make([]byte, 256<<10)
		for {
			n, err := c.Read(buf)
			h.Write(buf[:n])
			if got += n; err != nil {
				if err != io.EOF {
					t.Errorf("after %d bytes: %v", got, err)
				}
				break
			}
			if at+1 < len(all) && got > (at+1)*size/len(all) {
				if n, err := all[at].hand(t, all[at+1]); n > 1 || err != nil {
					t.Fatal(n, err)
				}
				at++
			}
		}
		if at < len(all)-1 {
			t.Errorf("moved %d times", at)
		}
		if [sha256.Size]byte(h.Sum(nil)) != sha256.Sum256(down) {
			t.Errorf("%d bytes of %d came down, or others", got, len(down))
		}
		if <-sums != sha256.Sum256(up) {
			t.Error("what went up is not what was sent")
		}
		wg.Wait()
		in, out := 0, 0
		for _, p := range all {
			p.empty(t)
			i, o := p.pool.bytes()
			in, out = in+i, out+o
		}
		if in != len(down) || out != len(up) {
			t.Errorf("counted %d bytes in, %d out", in, out)
		}
	})
}

// TestMoveHalfClosed moves pairs one of whose directions has ended.
func TestMoveHalfClosed(t *testing.T) {
	onNetworks(t, func(t *testing.T, client, server string) {
		next := make(chan struct{})
		s := listen(t, server, func(c net.Conn) {
			in, err := io.ReadAll(c)
			if err != nil {
				t.Error(err)
			}
			<-next
			_, _ = c.Write(in)
		})
		a, b := two(t, client, nil, s.address())
		c := a.dial(t)
		sent := noise(1 << 20)
		_, _ = c.Write(sent)
		closeWrite(c)
		a.waitFor(t, "passing all on", func(k eventloop.Counters) bool { return k.UpstreamOut == uint64(len(sent)) })
		if n, err := a.hand(t, b); n != 1 || err != nil {
			t.Fatal(n, err)
		}
		close(next)
		if got, err := io.ReadAll(c); err != nil || string(got) != string(sent) {
			t.Errorf("%d bytes of %d, %v", len(got), len(sent), err)
		}
		a.empty(t)
		b.empty(t)
	})
}

// TestMoveHeader moves a client after each byte of its PROXY header.
func TestMoveHeader(t *testing.T) {
	change := func(c *config.TCP, u *config.Upstream) { c.AcceptProxy, u.SendProxy = true, 1 }
	a, b := two(t, "tcp", change, listen(t, "tcp", tellHeader(t)).address())
	head := "PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\n"
	c := a.dial(t)
	from, to := a, b
	for i := range head {
		from.drip(t, c, []byte(head[i:i+1]))
		if i == len(head)-1 {
			break
		}
		if n, err := from.hand(t, to); n != 1 || err != nil {
			t.Fatal(i, n, err)
		}
		from, to = to, from
	}
	h, _, _ := proxyproto.Parse([]byte(head))
	if got, want := answer(t, c), "1 "+h.Source.String()+" "+h.Destination.String()+"|"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestMoveWhileConnecting: a pair that isn't one yet stays until it is.
func TestMoveWhileConnecting(t *testing.T) {
	change := func(_ *config.TCP, u *config.Upstream) { u.ConnectTimeout = 100 * time.Millisecond }
	a, b := two(t, "tcp", change, blackHole(t), listen(t, "tcp", echo).address())
	c := a.dial(t)
	a.waitFor(t, "an attempt", func(k eventloop.Counters) bool { return k.UpstreamOpen == 1 })
	if n, err := a.hand(t, b); n != 0 || err != nil {
		t.Fatal(n, err)
	}
	hello(t, c)
	if n, err := a.hand(t, b); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	hello(t, c)
}

// TestMoveToOtherServers: a pair stays with its server, though the next configuration
// doesn't have it.
func TestMoveToOtherServers(t *testing.T) {
	s := listen(t, "tcp", echo)
	a := start(t, "tcp", nil, s.address())
	b := start(t, "tcp", nil, refusing(t))
	c := a.dial(t)
	hello(t, c)
	if n, err := a.hand(t, b); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	hello(t, c)
	d := start(t, "tcp", nil, s.address())
	if n, err := b.hand(t, d); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	hello(t, c)
}

// TestMoveRest moves a client that takes its last bytes slowly after its server broke
// off: they are all delivered, and then that is seen.
func TestMoveRest(t *testing.T) {
	sent := noise(16 << 20)
	s := listen(t, "tcp", func(c net.Conn) {
		_, _ = c.Write(sent)
		allAcknowledged(t, c)
		reset(c)
	})
	a, b := two(t, "tcp", nil, s.address())
	c := a.dial(t)
	got := make([]byte, 0, len(sent))
	buf := make([]byte, 128<<10)
	moved := false
	for {
		n, err := c.Read(buf)
		if got = append(got, buf[:n]...); err != nil {
			if !errors.Is(err, unix.ECONNRESET) {
				t.Errorf("it ended with %v", err)
			}
			break
		}
		// When the server is lost, and some of what it sent is with the kernel still. It takes
		// the loop a moment to see that, for which nothing is read.
		for wait := 20; !moved && wait > 0; wait-- {
			var k eventloop.Counters
			a.on(func() { k = *a.Count() })
			switch {
			case k.UpstreamIn < uint64(len(sent)):
				wait = 0
			case k.UpstreamOpen > 0:
				time.Sleep(time.Millisecond)
			case k.Open == 1:
				if m, err := a.hand(t, b); m != 1 || err != nil {
					t.Fatal(m, err)
				}
				moved = true
			}
		}
	}
	if string(got) != string(sent) || !moved {
		t.Errorf("%d bytes of %d; moved: %v", len(got), len(sent), moved)
	}
	a.empty(t)
	b.empty(t)
}

// TestMoveLingering moves a client whose server has closed, and that has not.
func TestMoveLingering(t *testing.T) {
	a, b := two(t, "tcp", nil, listen(t, "unix", func(c net.Conn) { _, _ = io.WriteString(c, "bye") }).address())
	c := a.dial(t)
	a.waitFor(t, "the server's end", func(k eventloop.Counters) bool { return k.UpstreamIn == 3 && k.UpstreamOpen == 0 })
	if n, err := a.hand(t, b); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	a.empty(t)
	if got, err := io.ReadAll(c); string(got) != "bye" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	c.Close()
	b.empty(t)
}

// TestThawRefuses: what is no pair of ours is not let in, and nothing is left in use.
func TestThawRefuses(t *testing.T) {
	p := start(t, "tcp", nil, listen(t, "tcp", echo).address())
	client := func(state string) eventloop.Parcel {
		return eventloop.Parcel{FD: 900, File: -1, Kind: "tcp.1", State: []byte(state)}
	}
	server := &eventloop.Parcel{FD: 901, File: -1, Kind: "tcp-upstream.1", State: []byte("\x01x"), Facts: 1 << 17}
	pair := func(client eventloop.Parcel, server *eventloop.Parcel) eventloop.Parcel {
		client.Partner = server
		return client
	}
	other := *server
	other.Kind = "http-upstream.1"
	files := *server
	files.Files = []int{7}
	short := *server
	short.State = []byte("\x05x")
	for _, parcel := range []eventloop.Parcel{
		client(""), client("\x00\x00"), client("\x00\x00\x00\x00"), client("\x01\x00\x00"), client("\x02\x00\x00"),
		client("\x07\x00\x00"), client("\x00\x00\x02"),
		{FD: 900, File: -1, Kind: "echo.1", State: []byte("\x00\x00\x00")},
		pair(client("\x00\x00\x00"), server), pair(client("\x01\x00\x00"), server), pair(client("\x03\x00\x00"), server),
		pair(client(""), server), pair(client("\x02\x00\x00"), &other), pair(client("\x02\x00\x00"), &files),
		pair(client("\x02\x00\x00"), &short),
	} {
		p.on(func() {
			if _, err := p.Arrive(p.svc, &parcel); err == nil || p.Open() != 0 || p.pool.inUse() != 0 {
				t.Errorf("%+v was let in: %v, %d are open", parcel, err, p.Open())
			}
		})
	}
}
