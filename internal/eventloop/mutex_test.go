package eventloop_test

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"reuseportd/internal/eventloop"
)

// mutexProcess is the variable that makes the test binary a process which uses the
// mutex at descriptor 4 of the listening socket at 3, and stays in a state.
const mutexProcess = "EVENTLOOP_MUTEX_PROCESS"

// mutexStates are the states in which the process can be killed: what it does at once,
// and what when it is told to go on.
var mutexStates = map[string]struct{ first, then func(word *uint32) }{
	"waits for connections with it": {first: func(word *uint32) {
		l, err := eventloop.New(eventloop.Options{})
		if err != nil {
			panic(err)
		}
		l.Post(func() {
			if _, err := l.Listen(3, l.NewService(&calls{}, 0), eventloop.Sharing{Mutex: word}); err != nil {
				panic(err)
			}
		})
		go func() { _ = l.Run() }()
		for eventloop.MutexHolder(word) != os.Getpid() {
			time.Sleep(time.Millisecond)
		}
	}},
	"is about to accept with it": {first: lock},
	"has freed it and woken nobody": {first: lock, then: func(word *uint32) {
		atomic.StoreUint32(word, 0)
	}},
	"sleeps until it is free": {first: func(word *uint32) {
		eventloop.NewMutex(word, -1, func() {}).Await()
		for !eventloop.Awaited(word) {
			time.Sleep(time.Millisecond)
		}
	}},
	"was woken and has not tried": {first: func(word *uint32) {
		eventloop.NewMutex(word, -1, func() { select {} }).Await()
		for !eventloop.Awaited(word) {
			time.Sleep(time.Millisecond)
		}
	}},
}

func lock(word *uint32) {
	if !eventloop.NewMutex(word, -1, func() {}).TryLock() {
		panic("the mutex is not free")
	}
}

func runMutexProcess(name string) {
	word, state := mapWord(4), mutexStates[name]
	state.first(word)
	_, _ = os.Stdout.WriteString("ready\n")
	var b [1]byte
	if _, err := os.Stdin.Read(b[:]); err == nil {
		state.then(word)
		_, _ = os.Stdout.WriteString("ready\n")
	}
	_, _ = io.Copy(io.Discard, os.Stdin) // until it is killed, or its parent is
}

// mapWord maps the first word of a memfd. It stays mapped.
func mapWord(fd int) *uint32 {
	mem, err := unix.Mmap(fd, 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		panic(err)
	}
	return (*uint32)(unsafe.Pointer(&mem[0]))
}

func sharedWord(t *testing.T) (fd int, word *uint32) {
	t.Helper()
	fd, err := unix.MemfdCreate("mutex", unix.MFD_CLOEXEC)
	if err == nil {
		err = unix.Ftruncate(fd, int64(os.Getpagesize()))
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	return fd, mapWord(fd)
}

// contenders are loops that share a listening socket under a mutex.
func contenders(t *testing.T, fd, n int, word *uint32, o eventloop.Options) []*server {
	t.Helper()
	var all []*server
	for range n {
		own, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, serve(t, config{
			listen: own, sharing: eventloop.Sharing{Mutex: word}, Options: o,
			handler: func(*eventloop.Loop) eventloop.Handler { return &calls{received: echoes} },
		}))
	}
	return all
}

// listenShared makes a listening socket that stays the test's.
func listenShared(t *testing.T) int {
	t.Helper()
	fd := listenTCP(t)
	t.Cleanup(func() { _ = unix.Close(fd) })
	return fd
}

func acceptedBy(all []*server) (n uint64) {
	for _, s := range all {
		n += s.count().Accepted
	}
	return n
}

// Every connection is served, and once.
func TestMutexServesAll(t *testing.T) {
	for _, n := range []int{1, 2, 4} {
		t.Run(fmt.Sprintf("loops=%d", n), func(t *testing.T) {
			_, word := sharedWord(t)
			all := contenders(t, listenShared(t), n, word, eventloop.Options{})
			const clients, each = 8, 50
			done := make(chan struct{})
			for range clients {
				go func() {
					defer func() { done <- struct{}{} }()
					for range each {
						c, err := net.Dial("tcp", all[0].addr)
						if err != nil {
							t.Error(err)
							return
						}
						ping(t, c)
						c.Close()
					}
				}()
			}
			for range clients {
				<-done
			}
			if got := acceptedBy(all); got != clients*each {
				t.Errorf("accepted %d, want %d", got, clients*each)
			}
			held := 0
			for _, s := range all {
				s.do(func() {
					if s.ln.Held() {
						held++
					}
				})
			}
			if held > 1 {
				t.Errorf("%d hold it", held)
			}
		})
	}
}

// While another process holds the mutex a loop serves its connections, and when it
// is free the loop accepts.
func TestMutexOfAnother(t *testing.T) {
	_, word := sharedWord(t)
	s := contenders(t, listenShared(t), 1, word, eventloop.Options{})[0]
	c := s.dial()
	ping(t, c)
	other := os.Getppid()
	s.do(func() { // a loop that serves holds nothing
		if !atomic.CompareAndSwapUint32(word, 0, uint32(other)) {
			t.Error("it is held in the middle of a turn")
		}
	})
	late := s.dial()
	for range 20 {
		ping(t, c)
	}
	if n := s.count(); n.Accepted != 1 {
		t.Errorf("accepted %d without the mutex", n.Accepted)
	}
	eventloop.BreakMutex(word, other)
	ping(t, late)
}

// A loop that has as many connections as it may leaves the mutex to others, and so
// does one that stops accepting or ends.
func TestMutexIsLeft(t *testing.T) {
	_, word := sharedWord(t)
	full := contenders(t, listenShared(t), 1, word, eventloop.Options{MaxConnections: 1})[0]
	ping(t, full.dial())
	second, err := unix.FcntlInt(uintptr(full.fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	other := serve(t, config{
		listen: second, sharing: eventloop.Sharing{Mutex: word},
		handler: func(*eventloop.Loop) eventloop.Handler { return &calls{received: echoes} },
	})
	for range 20 {
		ping(t, full.dial())
	}
	if n := other.count(); n.Accepted != 20 {
		t.Errorf("accepted %d, want 20", n.Accepted)
	}
	other.do(func() { other.Unlisten(other.ln) })
	if pid := eventloop.MutexHolder(word); pid != 0 {
		t.Errorf("process %d holds it", pid)
	}
}

// A process that is killed, whatever it was doing with the mutex, stops nobody.
func TestMutexUserKilled(t *testing.T) {
	for name, state := range mutexStates {
		t.Run(name, func(t *testing.T) {
			memfd, word := sharedWord(t)
			fd := listenShared(t)
			waits := name == "sleeps until it is free" || name == "was woken and has not tried"
			if waits {
				atomic.StoreUint32(word, uint32(os.Getppid()))
			}
			p := startMutexProcess(t, name, fd, memfd)
			s := contenders(t, fd, 1, word, eventloop.Options{})[0]
			s.until("the loop waits for the mutex", func() bool { return s.ln != nil && s.ln.Waits() })
			switch {
			case state.then != nil:
				p.goOn()
			case name == "was woken and has not tried":
				eventloop.BreakMutex(word, os.Getppid())
			}
			p.kill()
			eventloop.BreakMutex(word, os.Getppid())
			for range 10 {
				ping(t, s.dial())
			}
		})
	}
}

// A holder that is stopped stops nobody, nor does one that was killed while its
// parent doesn't hear of it.
func TestMutexHolderStopped(t *testing.T) {
	for name, sig := range map[string]unix.Signal{"stopped": unix.SIGSTOP, "killed and not reaped": unix.SIGKILL} {
		t.Run(name, func(t *testing.T) {
			memfd, word := sharedWord(t)
			fd := listenShared(t)
			p := startMutexProcess(t, "waits for connections with it", fd, memfd)
			t.Cleanup(p.kill)
			s := contenders(t, fd, 1, word, eventloop.Options{})[0]
			s.until("the loop waits for the mutex", func() bool { return s.ln != nil && s.ln.Waits() })
			p.signal(sig)
			for range 10 {
				ping(t, s.dial())
			}
		})
	}
}

// mutexProc is a process in one of mutexStates.
type mutexProc struct {
	t   *testing.T
	cmd *exec.Cmd
	in  io.WriteCloser
	out io.Reader
}

// startMutexProcess returns when the process is in its state.
func startMutexProcess(t *testing.T, state string, listen, memfd int) *mutexProc {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), mutexProcess+"="+state)
	for _, fd := range []int{listen, memfd} {
		dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		f := os.NewFile(uintptr(dup), "")
		defer f.Close()
		cmd.ExtraFiles = append(cmd.ExtraFiles, f)
	}
	cmd.Stderr = os.Stderr
	p := &mutexProc{t: t, cmd: cmd}
	var err error
	if p.in, err = cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if p.out, err = cmd.StdoutPipe(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p.ready()
	return p
}

func (p *mutexProc) ready() {
	p.t.Helper()
	line := make([]byte, len("ready\n"))
	if _, err := io.ReadFull(p.out, line); err != nil || string(line) != "ready\n" {
		p.t.Fatalf("the process says %q, %v", line, err)
	}
}

func (p *mutexProc) goOn() {
	p.t.Helper()
	_, _ = p.in.Write([]byte("."))
	p.ready()
}

// signal sends a signal that stops or ends the process and returns when it has: until
// then its threads go on, and may take a connection with them. It is not reaped.
func (p *mutexProc) signal(sig unix.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil {
		p.t.Fatal(err)
	}
	err := error(unix.EINTR)
	for err == unix.EINTR {
		err = unix.Waitid(unix.P_PID, p.cmd.Process.Pid, nil, unix.WSTOPPED|unix.WEXITED|unix.WNOWAIT, nil)
	}
	if err != nil {
		p.t.Fatal("waitid:", err)
	}
}

func (p *mutexProc) kill() {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
}
