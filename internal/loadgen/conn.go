package loadgen

import (
	"bytes"
	"strconv"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// conn is one connection of a thread.
type conn struct {
	open       bool
	connecting bool
	answered   bool  // completely; only the server's close, or the next request, is still to come
	closing    bool  // the server said that it closes
	got        int   // bytes of the current answer
	expect     int   // length of the current answer
	started    int64 // when the current request began, or was due
}

var (
	keepRequest  = []byte("GET / HTTP/1.1\r\nHost: bench\r\n\r\n")
	closeRequest = []byte("GET / HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")
)

// requestOf returns a load's request and the length of its answer, if that is known.
func requestOf(c Config) (text []byte, answer int) {
	switch {
	case c.Echo > 0:
		return bytes.Repeat([]byte{'.'}, c.Echo), c.Echo
	case c.Kept:
		return keepRequest, 0
	}
	return closeRequest, 0
}

const watched = unix.EPOLLIN | unix.EPOLLRDHUP | unix.EPOLLET

// connect begins a connection. Its latency counts from started.
func (t *thread) connect(started int64) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.vacant++ // a closed load tries again after the next wait
		t.fail(started)
		return
	}
	to := t.load.config.Address
	sa := unix.RawSockaddrInet4{Family: unix.AF_INET, Addr: to.Addr().As4()}
	port := (*[2]byte)(unsafe.Pointer(&sa.Port))
	port[0], port[1] = byte(to.Port()>>8), byte(to.Port())
	_, _, errno := unix.RawSyscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&sa)), unsafe.Sizeof(sa))
	if errno != 0 && errno != unix.EINPROGRESS {
		_ = unix.Close(fd)
		t.vacant++
		t.fail(started)
		return
	}
	for fd >= len(t.conns) {
		t.conns = append(t.conns, make([]conn, fd+64)...)
	}
	c := &t.conns[fd]
	*c = conn{open: true, connecting: errno == unix.EINPROGRESS, started: started}
	t.open++
	ev := unix.EpollEvent{Events: watched, Fd: int32(fd)}
	if c.connecting {
		ev.Events |= unix.EPOLLOUT
	} else if t.established(fd); !c.open {
		return
	}
	if unix.EpollCtl(t.epoll, unix.EPOLL_CTL_ADD, fd, &ev) != nil {
		t.lose(fd)
	}
}

// fail counts a connect that failed. If it was for one request, that gets no answer.
func (t *thread) fail(started int64) {
	t.failed.Add(1)
	if !t.load.config.Kept {
		t.took(started, never)
	}
}

func (t *thread) established(fd int) {
	t.connects.Add(1)
	c := &t.conns[fd]
	c.connecting = false
	if t.load.config.Kept && t.load.config.Rate > 0 || t.all > 0 {
		t.rest(fd, c)
		return
	}
	t.request(fd)
}

// rest makes a kept connection wait until a request is due.
func (t *thread) rest(fd int, c *conn) {
	c.answered = true
	t.idle = append(t.idle, fd)
}

func (t *thread) request(fd int) {
	n, _, errno := unix.RawSyscall(unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(&t.text[0])), uintptr(len(t.text)))
	if errno != 0 || int(n) != len(t.text) {
		t.lose(fd)
	}
}

// handle handles the events of a connection. Those of the timer only wake the thread.
func (t *thread) handle(fd int, events uint32) {
	if fd >= len(t.conns) || !t.conns[fd].open {
		return
	}
	c := &t.conns[fd]
	if c.connecting {
		if events&(unix.EPOLLERR|unix.EPOLLHUP) != 0 {
			t.fail(c.started)
			t.end(fd)
			return
		}
		if events&unix.EPOLLOUT == 0 {
			return
		}
		if t.established(fd); !c.open {
			return
		}
	}
	if events&(unix.EPOLLIN|unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		t.read(fd, events)
	}
}

func (t *thread) read(fd int, events uint32) {
	c := &t.conns[fd]
	for {
		n, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(&t.buf[0])), uintptr(len(t.buf)))
		switch {
		case errno == unix.EAGAIN:
			return
		case errno != 0 || n == 0:
			t.closed(fd)
			return
		case !t.take(c, t.buf[:n]):
			t.lose(fd)
			return
		}
		if c.answered && t.next(fd, c) {
			return
		}
		if int(n) < len(t.buf) && events&unix.EPOLLRDHUP == 0 {
			return // drained
		}
	}
}

// next continues with a connection whose answer is complete. It returns false if the
// server's close is still to come.
func (t *thread) next(fd int, c *conn) bool {
	config := t.load.config
	switch {
	case config.Kept && c.closing:
		t.shut.Add(1)
		t.end(fd)
	case config.Kept && config.Rate > 0:
		t.rest(fd, c)
	case config.Kept && !t.load.ending.Load():
		c.answered, c.got, c.started = false, 0, t.now
		t.request(fd)
	case config.Kept, config.Echo > 0:
		t.end(fd)
	default:
		return false
	}
	return true
}

// closed handles the end of input, which is expected if the answer is complete.
func (t *thread) closed(fd int) {
	if !t.conns[fd].answered {
		t.lose(fd)
		return
	}
	if t.load.config.Kept {
		t.shut.Add(1)
	}
	t.end(fd)
}

// lose ends a connection whose request has no complete answer.
func (t *thread) lose(fd int) {
	if c := &t.conns[fd]; !c.answered {
		t.lost.Add(1)
		t.took(c.started, never)
	}
	t.end(fd)
}

func (t *thread) end(fd int) {
	t.conns[fd].open = false
	t.open--
	t.vacant++
	if !t.load.config.Kept && t.load.config.Echo == 0 {
		reset := syscall.Linger{Onoff: 1}
		_ = syscall.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &reset)
	}
	_ = unix.Close(fd)
}

// take takes the next bytes of an answer, and reports whether they are understood.
func (t *thread) take(c *conn, data []byte) bool {
	if c.got == 0 && !t.begins(c, data) {
		return false
	}
	c.got += len(data)
	if c.got == c.expect && !c.answered {
		c.answered = true
		t.answered.Add(1)
		t.took(c.started, t.now)
	}
	return c.got <= c.expect
}

// begins looks at the first bytes of an answer. All answers of a server have the same
// length, except those that announce a close; so it parses a head only if the length
// differs.
func (t *thread) begins(c *conn, data []byte) bool {
	c.expect = t.expect
	if t.load.config.Echo > 0 {
		return true
	}
	if !bytes.HasPrefix(data, []byte("HTTP/1.1 200 ")) {
		return false
	}
	if len(data) == t.expect {
		return true
	}
	if n := answerLength(data); n > 0 {
		c.expect = n
		c.closing = bytes.Contains(bytes.ToLower(data[:min(n, len(data))]), []byte("\r\nconnection: close\r\n"))
	}
	if t.expect == 0 {
		t.expect = c.expect
	}
	return c.expect > 0
}

// answerLength returns the length of the answer that begins with data, 0 if its head isn't complete.
func answerLength(data []byte) int {
	head := bytes.Index(data, []byte("\r\n\r\n"))
	field := []byte("\r\ncontent-length: ") // HAProxy writes all names in lower case
	i := bytes.Index(bytes.ToLower(data), field)
	if head < 0 || i < 0 || i > head {
		return 0
	}
	value, _, _ := bytes.Cut(data[i+len(field):], []byte("\r\n"))
	n, err := strconv.Atoi(string(value))
	if err != nil || n < 0 {
		return 0
	}
	return head + len("\r\n\r\n") + n
}
