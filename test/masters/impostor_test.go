package masters

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"reuseportd/internal/control"
	"reuseportd/internal/custody"
	"reuseportd/internal/wire"
	"reuseportd/test/harness"
	"reuseportd/test/kit"
)

// loot is a worker's descriptors, and what an impostor needs to know beside.
type loot struct {
	*harness.Loot
	t      *testing.T
	s      *harness.Server
	worker control.Worker
	gen    uint64
	config string
}

// rob takes a worker's descriptors.
func rob(t *testing.T, s *harness.Server, gen uint64, w control.Worker) *loot {
	t.Helper()
	text, err := os.ReadFile(s.ConfigPath)
	kit.Must(t, err)
	l, err := harness.Rob(w.PID)
	kit.Must(t, err)
	t.Cleanup(l.Close)
	return &loot{l, t, s, w, gen, string(text)}
}

// greeted stops the worker, and returns the channel to the next master that comes to its
// rescue, once that has said hello. It is called without a master.
func (l *loot) greeted() (*wire.Conn, error) {
	fd, late := -1, time.Now().Add(harness.Within)
	for {
		fds := []unix.PollFd{{Fd: int32(l.Rescue), Events: unix.POLLIN}}
		if _, err := unix.Poll(fds, int(harness.Within.Milliseconds())); err != nil && err != unix.EINTR {
			return nil, err
		}
		var err error
		if fd, _, err = unix.Accept4(l.Rescue, unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK); err == nil {
			break
		}
		if err != unix.EINTR && err != unix.EAGAIN || time.Now().After(late) { // poll(2) may have been interrupted
			return nil, err
		}
	}
	ch, err := wire.FromFD(fd)
	if err != nil {
		return nil, err
	}
	_, err = ch.Recv()
	return ch, err
}

// said is what is said to the next master in the worker's place: the truth, before a script
// changes it.
type said struct {
	files      custody.Part
	fileFDs    []int
	leased     custody.Part
	shardFDs   []int
	generation custody.Generation
	config     string
	worker     custody.Worker
	pidfd      int
	end        custody.End
}

func (l *loot) truth() *said {
	v := &said{
		files: custody.Part{Files: []string{custody.FileLedger, custody.FileBoard}}, fileFDs: []int{l.Ledger, l.Board},
		generation: custody.Generation{ID: l.gen, State: "serving"}, config: l.config, pidfd: -1,
		worker: custody.Worker{Generation: l.gen, Index: l.worker.Slot, Slots: []int{l.worker.Slot}, PID: l.worker.PID, State: "serving"},
		end:    custody.End{LastID: l.gen, Seq: 1},
	}
	for address, fd := range l.Shards {
		le := wire.Lease{Key: "tcp4!" + address, Index: l.worker.Slot, Slot: l.worker.Slot}
		v.leased.Leased = append(v.leased.Leased, le)
		v.shardFDs = append(v.shardFDs, fd)
	}
	return v
}

// say sends it all.
func (v *said) say(ch *wire.Conn) error {
	memfd, err := wire.Memfd("reuseportd-config", []byte(v.config))
	if err != nil {
		return err
	}
	defer unix.Close(memfd)
	pidfds := []int{v.pidfd}
	if v.pidfd < 0 {
		pidfds = nil
	}
	for _, send := range []func() error{
		func() error { return ch.Send(wire.KindCustody, v.files, v.fileFDs...) },
		func() error { return ch.Send(wire.KindCustody, v.leased, v.shardFDs...) },
		func() error { return ch.Send(wire.KindCustody, custody.Part{Generation: &v.generation}, memfd) },
		func() error { return ch.Send(wire.KindCustody, custody.Part{Worker: &v.worker}, pidfds...) },
		func() error { return ch.Send(wire.KindCustodyEnd, v.end) },
	} {
		if err := send(); err != nil {
			return err
		}
	}
	return nil
}

// listenEnv makes the test binary a process that listens at its descriptor 3 and waits to be
// killed.
const listenEnv = "REUSEPORTD_TEST_LISTENS"

func listener() {
	if err := unix.Listen(3, 8); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("listens")
	select {}
}

// listenAs starts a process of another user that listens at a duplicate of a socket.
func listenAs(t *testing.T, fd int, uid uint32) (pid int) {
	t.Helper()
	r, w, err := os.Pipe()
	kit.Must(t, err)
	defer r.Close()
	// The image's path is root's own: it is run through its descriptor.
	attr := &syscall.ProcAttr{
		Env:   []string{listenEnv + "=1"},
		Files: []uintptr{0, w.Fd(), 2, uintptr(fd)},
		Sys:   &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}},
	}
	pid, err = syscall.ForkExec("/proc/self/exe", []string{"listener"}, attr)
	_ = w.Close()
	kit.Must(t, err)
	t.Cleanup(func() {
		_ = unix.Kill(pid, unix.SIGKILL)
		_, _ = unix.Wait4(pid, nil, 0, nil)
	})
	buf := make([]byte, 64)
	n, _ := r.Read(buf)
	if got := strings.TrimSpace(string(buf[:n])); got != "listens" {
		t.Fatalf("the listener says %q", got)
	}
	return pid
}
