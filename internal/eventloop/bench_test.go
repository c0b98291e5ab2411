package eventloop

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The benchmarks of this file run a loop's parts on their own goroutine: what a turn costs
// without a switch to a client and back, and with no system call but where one is named.

// idler is a handler that echoes and is never done waiting.
type idler struct{ again Class }

func (h *idler) Opened(*Conn)  {}
func (h *idler) Flushed(*Conn) {}
func (h *idler) Ended(*Conn)   {}
func (h *idler) Closed(*Conn)  {}

func (h *idler) Received(c *Conn, in []byte) int {
	c.Write(in)
	c.SetTimeout(h.again)
	return len(in)
}

func (h *idler) TimedOut(c *Conn) { c.SetTimeout(h.again) }

// many is how many connections a loop has.
const many = 10_000

// crowd makes a loop that doesn't run, with many connections that have no socket.
func crowd(b *testing.B) (*Loop, []*Conn) {
	h := &idler{}
	l, cs := still(b, h, many)
	h.again = l.Class(time.Minute)
	return l, cs
}

// stride visits connections in an order that the processor doesn't foresee: it has no
// divisor in common with many.
const stride = 3571

// BenchmarkTimers are the arming of a connection that has waited, its arming for the other of
// two durations, as between a request's head and the next one, and the timeout of all.
func BenchmarkTimers(b *testing.B) {
	b.Run("again", func(b *testing.B) {
		l, cs := crowd(b)
		id := l.Class(time.Minute)
		b.ReportAllocs()
		for i := 0; b.Loop(); i = (i + stride) % many {
			l.now += 1000
			l.arm(cs[i], id)
		}
	})
	b.Run("other", func(b *testing.B) {
		l, cs := crowd(b)
		ids := [2]Class{l.Class(10 * time.Second), l.Class(time.Minute)}
		b.ReportAllocs()
		for i, k := 0, 0; b.Loop(); i, k = (i+stride)%many, k+1 {
			l.now += 1000
			l.arm(cs[i], ids[k/many&1])
		}
	})
	b.Run("disarm", func(b *testing.B) {
		l, cs := crowd(b)
		id := l.Class(time.Minute)
		b.ReportAllocs()
		for i := 0; b.Loop(); i = (i + stride) % many {
			l.arm(cs[i], id)
			l.disarm(cs[i])
		}
	})
	b.Run("expire", func(b *testing.B) {
		l, cs := crowd(b)
		for i, c := range cs {
			l.arm(c, l.Class(time.Duration(1+i%8)*time.Second))
		}
		b.ReportAllocs()
		for b.Loop() {
			l.now += int64(2 * time.Minute) // all are due, also those of a minute
			l.expire()
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*many), "ns/timeout")
	})
	b.Run("nearest", func(b *testing.B) {
		l, cs := crowd(b)
		for i, c := range cs {
			l.arm(c, l.Class(time.Duration(1+i%8)*time.Second))
		}
		b.ReportAllocs()
		for b.Loop() {
			l.nearest()
		}
	})
}

// BenchmarkFind is the way from an event to its connection, of many.
func BenchmarkFind(b *testing.B) {
	l, cs := crowd(b)
	b.ReportAllocs()
	for i := 0; b.Loop(); i = (i + stride) % many {
		if l.table.find(cs[i].fd, cs[i].gen) != cs[i] {
			b.Fatal("not found")
		}
	}
}

// BenchmarkBuffers lends a buffer and takes it back, of the kept ones and of a size of which
// none is kept.
func BenchmarkBuffers(b *testing.B) {
	for name, n := range map[string]int{"1K": 1 << 10, "16K": 16 << 10, "1M": 1 << 20} {
		b.Run(name, func(b *testing.B) {
			bs := buffers{holding: new(holding)}
			b.ReportAllocs()
			for b.Loop() {
				bs.put(bs.get(n))
			}
		})
	}
}

// BenchmarkOutput queues an answer and takes its room back.
func BenchmarkOutput(b *testing.B) {
	l, cs := crowd(b)
	answer := make([]byte, 150)
	b.ReportAllocs()
	for i := 0; b.Loop(); i = (i + stride) % many {
		cs[i].Write(answer)
		l.freeOutput(cs[i])
	}
}

// BenchmarkDispatch is a turn of 64 events of which nothing comes: what the loop itself
// costs.
func BenchmarkDispatch(b *testing.B) {
	l, cs := crowd(b)
	const events = 64
	b.ReportAllocs()
	for i := 0; b.Loop(); {
		for k := range events {
			i = (i + stride) % many
			l.events[k] = unix.EpollEvent{Events: unix.EPOLLOUT, Fd: cs[i].fd, Pad: int32(cs[i].gen)}
		}
		l.tick()
		l.turnOf(events)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*events), "ns/event")
}

// turnOf is the part of a turn that Run does between two waits, for a loop without listeners.
func (l *Loop) turnOf(n int) {
	for i := range l.events[:n] {
		l.dispatch(&l.events[i])
	}
	l.serveQueues(l.clock())
	l.expire()
	l.reap()
	l.count.Turns++
}

// BenchmarkTurn serves so many connections in a turn, each with a request that is echoed:
// ns/request has the loop's three system calls (a share of epoll_pwait, recvfrom, sendto) and
// none of the clients'.
func BenchmarkTurn(b *testing.B) {
	for name, n := range map[string]int{"1": 1, "64": 64} {
		b.Run(name, func(b *testing.B) { benchmarkTurn(b, n) })
	}
}

func benchmarkTurn(b *testing.B, n int) {
	l, err := New(Options{})
	if err != nil {
		b.Fatal(err)
	}
	h := &idler{again: l.Class(time.Minute)}
	s := l.NewService(h, 30*time.Second)
	clients := make([]int, n)
	for i := range clients {
		pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			b.Fatal(err)
		}
		clients[i] = pair[0]
		l.register(l.open(int32(pair[1]), s, serving))
	}
	defer func() {
		for _, fd := range clients {
			_ = unix.Close(fd)
		}
		l.free()
	}()
	request := make([]byte, 64)
	var spent time.Duration
	b.ReportAllocs()
	for b.Loop() {
		for _, fd := range clients {
			_, _ = unix.Write(fd, request)
		}
		began := time.Now()
		k, errno := l.poll()
		if k != n || errno != 0 {
			b.Fatal(k, errno)
		}
		l.tick()
		l.turnOf(k)
		spent += time.Since(began)
		for _, fd := range clients {
			if k, err := unix.Read(fd, request); k != len(request) {
				b.Fatal(k, err)
			}
		}
	}
	b.ReportMetric(float64(spent.Nanoseconds())/float64(b.N*n), "ns/request")
}
