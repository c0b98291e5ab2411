package tcp_test

import (
	"net/netip"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"reuseportd/internal/config"
)

// silent is a server that never accepts: its kernel does, up to a number of
// connections. It costs this process no memory.
func silent(t testing.TB) (config.Server, func() int) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, 1000); err != nil {
		t.Fatal(err)
	}
	sa, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	at := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(sa.(*unix.SockaddrInet4).Port))
	accept := func() int {
		c, _, err := unix.Accept4(fd, unix.SOCK_CLOEXEC)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	return config.Server{Network: "tcp", Address: at.String(), Weight: 1}, accept
}

// connect is a client of which this process knows but a number.
func (p *proxy) connect(t testing.TB) int {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	at := netip.MustParseAddrPort(p.addr)
	if err := unix.Connect(fd, &unix.SockaddrInet4{Addr: at.Addr().As4(), Port: int(at.Port())}); err != nil {
		t.Fatal(err)
	}
	return fd
}

// TestMemory: a pair on which nothing moves, and much has, costs little. Here it has four
// descriptors, for which the loop's table has room: elsewhere it costs less.
func TestMemory(t *testing.T) {
	const warm, pairs, most = 10, 300, 1024
	server, accept := silent(t)
	p := start(t, "tcp", nil, server)
	fds := make([]int, 0, 2*pairs)
	defer func() {
		for _, fd := range fds {
			_ = unix.Close(fd)
		}
	}()
	buf := make([]byte, 100<<10)
	heap := func() uint64 {
		var m runtime.MemStats
		p.on(func() { // while the loop stands still
			runtime.GC()
			runtime.GC() // the first one's finalizers
			runtime.ReadMemStats(&m)
		})
		return m.HeapAlloc
	}
	one := func() {
		client := p.connect(t)
		far := accept()
		fds = append(fds, client, far)
		if _, err := unix.Write(client, buf); err != nil {
			t.Fatal(err)
		}
		for n := 0; n < len(buf); {
			k, err := unix.Read(far, buf)
			if err != nil || k == 0 {
				t.Fatal(k, err)
			}
			n += k
		}
	}
	for range warm {
		one()
	}
	before := heap()
	for range pairs {
		one()
	}
	each := (int64(heap()) - int64(before)) / pairs
	runtime.KeepAlive(buf)
	p.on(func() {
		if n := p.Count().UpstreamOpen; n != warm+pairs {
			t.Errorf("%d pairs are open", n)
		}
	})
	t.Logf("%d bytes for each pair", each)
	if each > most {
		t.Errorf("%d bytes for each pair, %d are enough", each, most)
	}
}

// TestNoAllocation: connections come and go, and leave nothing for the garbage collector.
func TestNoAllocation(t *testing.T) {
	server, accept := silent(t)
	for name, change := range map[string]func(*config.TCP, *config.Upstream){
		"plain":  nil,
		"PROXY":  func(c *config.TCP, u *config.Upstream) { u.SendProxy = 2 },
		"hashed": func(c *config.TCP, u *config.Upstream) { u.Balance = config.BalanceHash },
	} {
		t.Run(name, func(t *testing.T) {
			p := start(t, "tcp", change, server)
			buf := make([]byte, 200)
			run := func(n int) {
				for range n {
					client := p.connect(t)
					far := accept()
					_, _ = unix.Write(client, buf[:100])
					for n := 0; n < 100; {
						k, err := unix.Read(far, buf)
						if err != nil || k == 0 {
							t.Fatal(k, err)
						}
						n += k
					}
					_, _ = unix.Write(far, buf[:100])
					_ = unix.Close(far)
					for {
						if k, err := unix.Read(client, buf); k == 0 && err == nil {
							break
						} else if err != nil {
							t.Fatal(err)
						}
					}
					_ = unix.Close(client)
				}
			}
			run(300)
			p.empty(t)
			var a, b runtime.MemStats
			runtime.ReadMemStats(&a)
			run(500)
			runtime.ReadMemStats(&b)
			// connect(2), by package unix, takes two for an address, and so does accept.
			if got := int(b.Mallocs-a.Mallocs) - 5*500; got > 50 {
				t.Errorf("%d allocations for 500 pairs", got)
			}
		})
	}
}
