package test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"reuseportd/internal/control"
	"reuseportd/test/harness"
)

// beat is how often the masters of these tests are to say that they are alive.
const beat = 100 * time.Millisecond

// manager is what a service manager hears: sd_notify(3).
type manager struct {
	t    *testing.T
	conn *net.UnixConn
}

// word is a message and the process that sent it, by the kernel's account.
type word struct {
	pid   int
	lines []string
}

func startManager(t *testing.T) (*manager, string) {
	t.Helper()
	path := filepath.Join(harness.Dir(t), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	must(t, err)
	t.Cleanup(func() { conn.Close() })
	raw, err := conn.SyscallConn()
	must(t, err)
	must(t, raw.Control(func(fd uintptr) {
		must(t, unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PASSCRED, 1))
	}))
	return &manager{t, conn}, path
}

// hear returns the next message that comes within a time.
func (m *manager) hear(within time.Duration) (word, bool) {
	m.t.Helper()
	must(m.t, m.conn.SetReadDeadline(time.Now().Add(within)))
	buf, oob := make([]byte, 4096), make([]byte, 1024)
	n, oobn, _, _, err := m.conn.ReadMsgUnix(buf, oob)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return word{}, false
	}
	must(m.t, err)
	msgs, err := unix.ParseSocketControlMessage(oob[:oobn])
	must(m.t, err)
	cred, err := unix.ParseUnixCredentials(&msgs[0])
	must(m.t, err)
	return word{int(cred.Pid), strings.Split(string(buf[:n]), "\n")}, true
}

// await waits until a process has said a line so many times from now on.
func (m *manager) await(pid, times int, line string) {
	m.t.Helper()
	for times > 0 {
		w, ok := m.hear(harness.Within)
		if !ok {
			m.t.Fatalf("process %d doesn't say %s", pid, line)
		}
		if w.pid == pid && slices.Contains(w.lines, line) {
			times--
		}
	}
}

// forget drops what has come up to now.
func (m *manager) forget() {
	for ok := true; ok; {
		_, ok = m.hear(time.Millisecond)
	}
}

// startWatched is a server that a service manager with a watchdog has started.
func startWatched(t *testing.T) (*harness.Server, *manager) {
	t.Helper()
	m, path := startManager(t)
	watched := func(s *harness.Server, cmd *exec.Cmd) { // WATCHDOG_PID is known to the process itself only
		script := s.Script(`WATCHDOG_PID=$$ exec "$@"`)
		cmd.Path, cmd.Args = script, append([]string{script, s.Binary}, cmd.Args[1:]...)
	}
	s := harness.Start(t, harness.Default(t).With("start_timeout: 30s"), watched,
		harness.Env("NOTIFY_SOCKET="+path), harness.Env(fmt.Sprint("WATCHDOG_USEC=", 3*beat.Microseconds())))
	return s, m
}

// While its loop turns a master says that it is alive, and through an upgrade whoever is listened to does: the old
// one until it has named the next one.
func TestKeepAlives(t *testing.T) {
	s, m := startWatched(t)
	old := s.PID()
	m.await(old, 3, "WATCHDOG=1")
	for range 3 {
		s.Arm("activate-drain", harness.Pause)
		changed := make(chan *control.Receipt, 1)
		go func() { changed <- s.Change("upgrade") }()
		s.WaitHit("activate-drain")
		m.forget()
		m.await(old, 3, "WATCHDOG=1")
		s.Disarm("activate-drain")
		r := <-changed
		if !r.OK {
			t.Fatalf("receipt %+v", r)
		}
		m.await(old, 1, fmt.Sprint("MAINPID=", r.PID))
		m.await(r.PID, 3, "WATCHDOG=1")
		s.WaitPID(old)
		old = r.PID
	}
	s.Stop()
}

// A master whose loop is held says nothing.
func TestNoKeepAlivesOfHungMaster(t *testing.T) {
	s, m := startWatched(t)
	pid := s.PID()
	m.await(pid, 3, "WATCHDOG=1")
	s.Arm("record-write", harness.Pause)
	changed := make(chan *control.Receipt, 1)
	go func() { changed <- s.Change("reload") }()
	s.WaitHit("record-write")
	m.forget()
	if w, ok := m.hear(5 * beat); ok {
		t.Errorf("its loop is held, and process %d says %q", w.pid, w.lines)
	}
	s.Disarm("record-write")
	m.await(pid, 3, "WATCHDOG=1")
	if r := <-changed; !r.OK {
		t.Errorf("receipt %+v", r)
	}
	s.Stop()
}
