package serving

import (
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"reuseportd/test/harness"
	"reuseportd/test/kit"
)

const floodRequest = "GET / HTTP/1.1\r\nHost: x\r\n\r\n"

// flood is a client that sends requests on all of its connections without a pause, and reads all answers.
type flood struct {
	t     *testing.T
	epoll int
	fds   []int
	off   map[int]int // of the request that each is sending
	block string
	got   atomic.Int64 // bytes of answers
	over  atomic.Bool
	done  chan struct{}
}

// startFlood floods an address with n connections, until the test or stop ends it.
func startFlood(t *testing.T, address string, n int) *flood {
	t.Helper()
	f := &flood{t: t, off: make(map[int]int), block: strings.Repeat(floodRequest, 1024), done: make(chan struct{})}
	to := netip.MustParseAddrPort(address)
	var err error
	f.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	kit.Must(t, err)
	for range n {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		kit.Must(t, err)
		f.fds = append(f.fds, fd)
		kit.Must(t, unix.Connect(fd, &unix.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())}))
		kit.Must(t, unix.SetNonblock(fd, true))
		kit.Must(t, f.watch(unix.EPOLL_CTL_ADD, fd))
	}
	go f.run()
	t.Cleanup(f.stop)
	return f
}

func (f *flood) watch(op, fd int) error {
	return unix.EpollCtl(f.epoll, op, fd, &unix.EpollEvent{
		Events: unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLET, Fd: int32(fd),
	})
}

func (f *flood) run() {
	defer close(f.done)
	events, room := make([]unix.EpollEvent, 256), make([]byte, 256<<10)
	for !f.over.Load() {
		n, err := unix.EpollWait(f.epoll, events, 100)
		if err != nil && err != unix.EINTR {
			f.t.Errorf("epoll_wait: %v", err)
			return
		}
		for _, ev := range events[:max(n, 0)] {
			fd := int(ev.Fd)
			k, err := 0, error(nil)
			for range 4 { // as many as it takes to keep the server at work, and no one connection alone
				if k, err = unix.Read(fd, room); k <= 0 {
					break
				}
				f.got.Add(int64(k))
			}
			if k == 0 || err != nil && err != unix.EAGAIN {
				f.t.Errorf("the server has ended a connection that floods it: %v", err)
				return
			}
			for err = nil; err == nil; {
				if k, err = unix.Write(fd, []byte(f.block[f.off[fd]:])); err == nil {
					f.off[fd] = (f.off[fd] + k) % len(floodRequest)
				}
			}
			_ = f.watch(unix.EPOLL_CTL_MOD, fd) // more may be there to be read
		}
	}
}

func (f *flood) stop() {
	f.over.Store(true)
	<-f.done
	for _, fd := range f.fds {
		_ = unix.Close(fd)
	}
	f.fds = nil
	if f.epoll >= 0 {
		_ = unix.Close(f.epoll)
		f.epoll = -1
	}
}

// politely makes one request and returns the bytes of its answer.
func politely(t *testing.T, c net.Conn) int {
	t.Helper()
	_, err := io.WriteString(c, floodRequest)
	kit.Must(t, err)
	var b [512]byte
	n, err := c.Read(b[:])
	kit.Must(t, err)
	if got := string(b[:n]); !strings.HasPrefix(got, "HTTP/1.1 200 ") || !strings.HasSuffix(got, "hello\n") {
		t.Fatalf("the answer is %q", got)
	}
	return n
}

// Beside 1 000 connections of one client that send requests without a pause, a polite one is answered soon: few
// of the flood's come before it. Nobody takes a busy worker for one that hangs, and commands are answered.
func TestFlood(t *testing.T) {
	c := harness.Default(t).WithWorkers(1) // so that the flood keeps it busy
	// On a slow machine a connection of the flood may have its turn late.
	c.Listeners[0].Service = strings.Replace(c.Listeners[0].Service, "http: {", "http: {header_timeout: 10m, keepalive_timeout: 10m, write_timeout: 10m, ", 1)
	s := harness.Start(t, c)
	workers := s.Workers()
	address := c.Address("web")
	kept := kit.Dial(t, address)
	size := int64(politely(t, kept))
	f := startFlood(t, address, 1000)
	for begun := int64(0); begun < 20_000*size; begun = f.got.Load() {
		politely(t, kept)
		select {
		case <-f.done:
			t.Fatal("the flood has ended before it had begun")
		default:
		}
	}
	var between []int // requests that the server answered between a polite one and its answer
	for i := range 40 {
		before := s.Status().Totals.Requests
		if i%2 == 0 {
			politely(t, kept)
		} else {
			fresh := kit.Dial(t, address)
			politely(t, fresh)
			_ = fresh.Close()
		}
		between = append(between, int(s.Status().Totals.Requests-before))
	}
	slices.Sort(between)
	t.Logf("requests answered between a polite one and its answer: median %d, most %d", between[20], between[39])
	// Each connection of the flood may have a share before it in the worst case, some 28. A turn of all that
	// their sockets held would be 800 of each.
	if between[20] > 60_000 {
		t.Errorf("%d requests of the flood were answered before a polite one", between[20])
	}
	f.stop()
	if now := s.Workers(); !slices.Equal(now, workers) {
		t.Errorf("workers were %v, and are %v", workers, now)
	}
	if log := s.Log(); strings.Contains(log, "worker_timeout") {
		t.Errorf("a worker was taken for one that hangs:\n%s", log)
	}
}
