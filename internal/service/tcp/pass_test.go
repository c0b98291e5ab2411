package tcp_test

import (
	"bytes"
	"crypto/sha256"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"

	"reuseportd/internal/eventloop"
)

// networks are the kinds of sockets that the two ends may have.
var networks = []struct{ client, server string }{
	{"tcp", "tcp"}, {"tcp", "unix"}, {"unix", "tcp"}, {"unix", "unix"},
}

// onNetworks runs a test with each of them.
func onNetworks(t *testing.T, f func(t *testing.T, client, server string)) {
	for _, n := range networks {
		t.Run(n.client+" to "+n.server, func(t *testing.T) { f(t, n.client, n.server) })
	}
}

// noise returns bytes that are like no others in it, not to be changed.
func noise(n int) []byte { return allNoise()[:n:n] }

var allNoise = sync.OnceValue(func() []byte {
	b := make([]byte, 17<<20)
	_, _ = rand.NewChaCha8([32]byte{}).Read(b)
	return b
})

func TestEcho(t *testing.T) {
	onNetworks(t, func(t *testing.T, client, server string) {
		p := start(t, client, nil, listen(t, server, echo).address())
		c := p.dial(t)
		buf := make([]byte, 5)
		for range 100 {
			if _, err := c.Write([]byte("hello")); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(c, buf); err != nil || string(buf) != "hello" {
				t.Fatalf("%q, %v", buf, err)
			}
		}
		c.Close()
		p.empty(t)
		if in, out := p.pool.bytes(); in != 500 || out != 500 {
			t.Errorf("counted %d bytes in, %d out", in, out)
		}
		if got := p.told(); got != nil {
			t.Errorf("failures: %q", got)
		}
	})
}

// The client ends first: the server gets all, then answers, then ends.
func TestClientEndsFirst(t *testing.T) {
	onNetworks(t, func(t *testing.T, client, server string) {
		s := listen(t, server, func(c net.Conn) {
			in, err := io.ReadAll(c)
			if err != nil {
				t.Error(err)
			}
			_, _ = c.Write(bytes.ToUpper(in))
		})
		p := start(t, client, nil, s.address())
		c := p.dial(t)
		sent := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
		_, _ = c.Write(sent)
		closeWrite(c)
		if got, err := io.ReadAll(c); err != nil || !bytes.Equal(got, bytes.ToUpper(sent)) {
			t.Errorf("%d bytes of %d, %v", len(got), len(sent), err)
		}
		p.empty(t)
	})
}

// The server speaks first and ends first: the client gets all and its end, and what the
// client sends then is still delivered.
func TestServerEndsFirst(t *testing.T) {
	onNetworks(t, func(t *testing.T, client, server string) {
		greeting := noise(1 << 20)
		got := make(chan []byte, 1)
		s := listen(t, server, func(c net.Conn) {
			_, _ = c.Write(greeting)
			closeWrite(c)
			in, err := io.ReadAll(c)
			if err != nil {
				t.Error(err)
			}
			got <- in
		})
		p := start(t, client, nil, s.address())
		c := p.dial(t)
		if in, err := io.ReadAll(c); err != nil || !bytes.Equal(in, greeting) {
			t.Errorf("%d bytes of %d, %v", len(in), len(greeting), err)
		}
		sent := noise(1 << 20)
		_, _ = c.Write(sent)
		closeWrite(c)
		if in := <-got; !bytes.Equal(in, sent) {
			t.Errorf("the server got %d bytes of %d", len(in), len(sent))
		}
		p.empty(t)
	})
}

// Much goes both ways at once, and arrives.
func TestBothWays(t *testing.T) {
	onNetworks(t, func(t *testing.T, client, server string) {
		const size = 8 << 20
		up, down := noise(size), noise(size + 4321)[4321:]
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
		p := start(t, client, nil, s.address())
		c := p.dial(t)
		var wg sync.WaitGroup
		wg.Go(func() { _, _ = c.Write(up); closeWrite(c) })
		h := sha256.New()
		if n, err := io.Copy(h, c); err != nil || [sha256.Size]byte(h.Sum(nil)) != sha256.Sum256(down) {
			t.Errorf("%d bytes came down, or others: %v", n, err)
		}
		if <-sums != sha256.Sum256(up) {
			t.Error("what went up is not what was sent")
		}
		wg.Wait()
		p.empty(t)
		if in, out := p.pool.bytes(); in != len(down) || out != len(up) {
			t.Errorf("counted %d bytes in, %d out", in, out)
		}
	})
}

// Who doesn't read stops who sends: what is under way is bounded, and nothing of it
// is lost.
func TestSlowReader(t *testing.T) {
	onNetworks(t, func(t *testing.T, client, server string) {
		const size = 32 << 20
		sum := make(chan [sha256.Size]byte, 1)
		s := listen(t, server, func(c net.Conn) {
			h := sha256.New()
			block := noise(1 << 20)
			for range size / len(block) {
				n, err := c.Write(block)
				if h.Write(block[:n]); err != nil {
					t.Error(err)
					return
				}
			}
			sum <- [sha256.Size]byte(h.Sum(nil))
		})
		p := start(t, client, nil, s.address())
		c := p.dial(t)
		// Until all buffers are full.
		var at uint64
		for still := 0; still < 50; {
			var n uint64
			p.on(func() { n = p.Count().UpstreamIn })
			if still++; n != at || n == 0 {
				at, still = n, 0
			}
			time.Sleep(time.Millisecond)
		}
		if at > size/2 {
			t.Errorf("%d bytes were read for a client that takes none", at)
		}
		p.on(func() {
			if out := p.Count().BytesOut; at-out > 1<<20 {
				t.Errorf("%d bytes lie here", at-out)
			}
		})
		h := sha256.New()
		if n, err := io.Copy(h, c); n != size || err != nil {
			t.Errorf("%d bytes, %v", n, err)
		}
		if [sha256.Size]byte(h.Sum(nil)) != <-sum {
			t.Error("what came is not what was sent")
		}
		c.Close()
		p.empty(t)
	})
}

// A direction goes on while the other is stuck: a client that reads only when it has
// sent all is not waited for to read.
func TestDirectionsAreIndependent(t *testing.T) {
	down, up := noise(17<<20), noise(2<<20)
	got := make(chan []byte, 1)
	s := listen(t, "tcp", func(c net.Conn) {
		var wg sync.WaitGroup
		defer wg.Wait()
		wg.Go(func() { _, _ = c.Write(down); closeWrite(c) })
		in, err := io.ReadAll(c)
		if err != nil {
			t.Error(err)
		}
		got <- in
	})
	p := start(t, "tcp", nil, s.address())
	c := p.dial(t)
	_ = c.(*net.TCPConn).SetReadBuffer(64 << 10)
	p.waitFor(t, "much from the server", func(k eventloop.Counters) bool { return k.UpstreamIn > 200<<10 })
	if _, err := c.Write(up); err != nil {
		t.Fatal(err)
	}
	closeWrite(c)
	if in := <-got; !bytes.Equal(in, up) {
		t.Errorf("the server got %d bytes of %d", len(in), len(up))
	}
	if in, err := io.ReadAll(c); err != nil || !bytes.Equal(in, down) {
		t.Errorf("the client got %d bytes of %d, %v", len(in), len(down), err)
	}
	p.empty(t)
}

// A client that has sent all and closed is served to the end.
func TestClientCloses(t *testing.T) {
	onNetworks(t, func(t *testing.T, client, server string) {
		got := make(chan int, 1)
		s := listen(t, server, func(c net.Conn) {
			n, _ := io.Copy(io.Discard, c)
			got <- int(n)
		})
		p := start(t, client, nil, s.address())
		c := p.dial(t)
		sent := noise(1 << 20)
		n, err := c.Write(sent)
		if err != nil {
			t.Fatal(n, err)
		}
		c.Close()
		if n := <-got; n != len(sent) {
			t.Errorf("the server got %d bytes of %d", n, len(sent))
		}
		p.empty(t)
	})
}

// A pair that is passed on 64 KiB and more later goes through a pipe; what is said
// afterwards is delivered at once.
func TestSmallAfterLarge(t *testing.T) {
	p := start(t, "tcp", nil, listen(t, "tcp", echo).address())
	c := p.dial(t)
	big, buf := noise(1<<20), make([]byte, 1<<20)
	go func() { _, _ = c.Write(big) }()
	if _, err := io.ReadFull(c, buf); err != nil || !bytes.Equal(buf, big) {
		t.Fatal(err)
	}
	begin := time.Now()
	for i := range 50 {
		_, _ = c.Write(big[i : i+3])
		if _, err := io.ReadFull(c, buf[:3]); err != nil || !bytes.Equal(buf[:3], big[i:i+3]) {
			t.Fatal(err)
		}
	}
	if d := time.Since(begin); d > 5*time.Second { // 200 ms each if the kernel held them back
		t.Errorf("50 short exchanges took %v", d)
	}
	c.Close()
	p.empty(t)
	p.on(func() {
		if k := p.Count(); k.Accepted != 1 || k.Closed != 1 || k.Cut != 0 {
			t.Errorf("counted %+v", k)
		}
	})
}
