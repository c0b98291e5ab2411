package serving

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"reuseportd/internal/control"
	"reuseportd/test/harness"
	"reuseportd/test/kit"
)

const mib = 1 << 20

// rss returns a process's own memory in bytes: RssAnon of proc_pid_status(5).
func rss(t *testing.T, pid int) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	kit.Must(t, err)
	_, after, _ := strings.Cut(string(b), "RssAnon:")
	n, err := strconv.Atoi(strings.Fields(after)[0])
	kit.Must(t, err)
	return n << 10
}

// smallRSS wants a worker's memory within a bound. The race detector has much of its own.
func smallRSS(t *testing.T, pid, bound int) {
	t.Helper()
	if n := rss(t, pid); !harness.Raced && n > bound {
		t.Errorf("worker %d has %d MiB, more than %d", pid, n/mib, bound/mib)
	}
}

// crowd opens n connections that each send text, as far as it is taken, and read nothing. They stay until
// leave or the test ends them.
func crowd(t *testing.T, address, text string, n int) (leave func()) {
	t.Helper()
	var lim unix.Rlimit
	kit.Must(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &lim))
	if lim.Cur < uint64(2*n) {
		t.Skipf("%d descriptors are too few for %d connections", lim.Cur, n)
	}
	d := net.Dialer{Timeout: harness.Within, Control: smallWindow}
	all := make([]net.Conn, n)
	var writers, dialers sync.WaitGroup
	for k := range 8 {
		dialers.Go(func() {
			for i := k; i < n; i += 8 {
				c, err := d.DialContext(t.Context(), "tcp", address)
				if err != nil {
					t.Error(err)
					return
				}
				all[i] = c
				writers.Go(func() { _, _ = io.WriteString(c, text) })
			}
		})
	}
	dialers.Wait()
	leave = sync.OnceFunc(func() {
		for _, c := range all {
			if c != nil {
				_ = c.(*net.TCPConn).SetLinger(0)
				_ = c.Close()
			}
		}
		writers.Wait()
	})
	t.Cleanup(leave)
	return leave
}

// smallWindow has a socket receive little that isn't read.
func smallWindow(_, _ string, c syscall.RawConn) (err error) {
	_ = c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 4<<10) })
	return err
}

// halfHead is n bytes of a request head.
func halfHead(n int) string {
	const begin = "GET / HTTP/1.1\r\nHost: test\r\nX: "
	return begin + strings.Repeat("a", n-len(begin))
}

// polite asks again and again, on a connection of its own each time, until it is called.
func polite(t *testing.T, address string) (stop func()) {
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-done:
				return
			default:
			}
			if got := kit.Body(address); got != "hello\n" {
				t.Errorf("a polite client is told %q", got)
				return
			}
		}
	}()
	return func() {
		close(done)
		<-ended
	}
}

// Half heads cost a worker no more than max_memory, through a reload too; others are served, and when
// they have gone the memory has, too.
func TestMaxMemory(t *testing.T) {
	c := harness.Default(t).WithWorkers(1).With("max_memory: 64MiB")
	s := harness.Start(t, c)
	pid := kit.Only(t, s.Status()).PID
	kept := kit.Dial(t, c.Address("web"))
	kept.Get()
	stop := polite(t, c.Address("web"))
	leave := crowd(t, c.Address("web"), halfHead(31<<10), 4000)
	st := s.WaitStatus("half heads to be shed", func(st *control.Status) bool { return st.Totals.ShedHeads > 2000 })
	smallRSS(t, pid, 72*mib)
	kept.Get()
	if w := kit.Only(t, st); w.PID != pid || w.MaxMemory != 64*mib || st.Totals.ShedIdle != 0 {
		t.Errorf("the worker is %+v", w)
	}
	s.WaitLog("memory is short")
	if out := s.CLI("status").Stdout; !strings.Contains(out, "half requests ended for want of memory: ") {
		t.Errorf("status says\n%s", out)
	}

	s.Reload()
	kept.Get()
	for _, p := range s.Workers() {
		smallRSS(t, p, 72*mib)
	}
	leave()
	stop()
	s.WaitStatus("the old worker to leave", func(st *control.Status) bool { return len(st.Groups) == 1 })
	pid = kit.Only(t, s.Status()).PID
	s.Wait("memory to come back", func() bool { return harness.Raced || rss(t, pid) < 20*mib })
	kept.Get()
}

// Bodies that a slow server doesn't take, and answers that slow clients don't read, are ended when they
// are too many, and others served.
func TestBodiesAreShed(t *testing.T) {
	dir := harness.Dir(t)
	deaf, err := net.Listen("unix", filepath.Join(dir, "deaf")) // whose buffers are small
	kit.Must(t, err)
	defer deaf.Close()
	loud, err := net.Listen("unix", filepath.Join(dir, "loud"))
	kit.Must(t, err)
	defer loud.Close()
	for _, l := range []net.Listener{deaf, loud} {
		kit.Must(t, os.Chmod(l.Addr().String(), 0o666)) // for workers of another user
	}
	go accepting(deaf, func(net.Conn) {})
	go accepting(loud, func(c net.Conn) {
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
		b := make([]byte, 1<<20)
		for err := error(nil); err == nil; {
			_, err = c.Write(b)
		}
	})
	web := harness.Local(t)
	c := harness.Config{
		Workers: 1,
		Top: []string{"watch: false", "max_memory: 16MiB", fmt.Sprintf(
			`upstreams: [{name: deaf, servers: [{address: "unix:%s"}]}, {name: loud, servers: [{address: "unix:%s"}]}]`, deaf.Addr(), loud.Addr())},
		Listeners: []harness.Listener{{Name: "web", Address: web, Service: `http: {max_body: 1GiB, routes: [{path: /, respond: {body: "hello\n"}}, ` +
			`{path: /deaf, proxy: {upstream: deaf}}, {path: /loud, proxy: {upstream: loud}}]}`}},
	}
	s := harness.Start(t, c)
	pid := kit.Only(t, s.Status()).PID
	stop := polite(t, web)
	chunk := fmt.Sprintf("%x\r\n%s\r\n", 60<<10, strings.Repeat("b", 60<<10))
	for _, request := range []string{
		"POST /deaf HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n" + strings.Repeat(chunk, 20),
		"POST /deaf HTTP/1.1\r\nHost: test\r\nContent-Length: 100000000\r\n\r\n" + strings.Repeat(chunk, 20),
		"GET /loud HTTP/1.1\r\nHost: test\r\n\r\n",
	} {
		before := s.Status().Totals.ShedBodies
		leave := crowd(t, web, request, 200)
		s.WaitStatus("bodies to be shed", func(st *control.Status) bool { return st.Totals.ShedBodies > before })
		smallRSS(t, pid, 24*mib)
		leave()
	}
	stop()
	if w := kit.Only(t, s.Status()); w.PID != pid {
		t.Errorf("worker %d was replaced by %d", pid, w.PID)
	}
}

// accepting serves each connection until the listener closes.
func accepting(l net.Listener, serve func(net.Conn)) {
	var all []net.Conn
	for {
		c, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			for _, c := range all {
				_ = c.Close()
			}
			return
		}
		if err == nil {
			all = append(all, c)
			go serve(c)
		}
	}
}

// memoryGroup makes a control group with a limit, v1 or v2, and returns its directory.
func memoryGroup(t *testing.T, limit int) string {
	t.Helper()
	for _, at := range []struct{ root, file string }{
		{"/sys/fs/cgroup/memory", "memory.limit_in_bytes"}, {"/sys/fs/cgroup", "memory.max"},
	} {
		dir := filepath.Join(at.root, fmt.Sprintf("reuseportd-test-%d", os.Getpid()))
		if os.Mkdir(dir, 0o755) != nil {
			continue
		}
		t.Cleanup(func() {
			for deadline := time.Now().Add(harness.Within); os.Remove(dir) != nil && time.Now().Before(deadline); {
				time.Sleep(time.Millisecond) // its processes are being forgotten
			}
		})
		if os.WriteFile(filepath.Join(dir, at.file), fmt.Append(nil, limit), 0) == nil {
			return dir
		}
	}
	t.Skip("no control group for memory can be made here: that takes root, and the memory controller")
	return ""
}

// Under a control group's limit no worker is killed, at the limit and through a reload.
func TestMemoryOfControlGroup(t *testing.T) {
	if harness.Raced {
		t.Skip("the race detector's own memory would fill the group")
	}
	dir := memoryGroup(t, 200*mib)
	c := harness.Default(t)
	s := harness.Prepare(t, c)
	s.Run(harness.InGroup(filepath.Join(dir, "cgroup.procs")))
	before := s.WaitServing(1)
	for pid, w := range kit.Workers(before) {
		if w.MaxMemory < 60*mib || w.MaxMemory > 90*mib {
			t.Errorf("worker %d has %d of 200 MiB", pid, w.MaxMemory)
		}
	}
	stop := polite(t, c.Address("web"))
	leave := crowd(t, c.Address("web"), halfHead(31<<10), 7500)
	s.WaitStatus("half heads to be shed", func(st *control.Status) bool { return st.Totals.ShedHeads > 2000 })
	kit.Unchanged(t, s, before)
	s.Reload()
	leave()
	stop()
	s.WaitStatus("the old workers to leave", func(st *control.Status) bool { return len(st.Groups) == 1 })
	s.WaitStatus("shares to grow again", func(st *control.Status) bool {
		for _, w := range kit.Workers(st) {
			if w.MaxMemory < 60*mib || w.Restarts != 0 {
				return false
			}
		}
		return true
	})
}
