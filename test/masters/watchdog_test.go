package masters

import (
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
	"reuseportd/test/kit"
)

// beat is how often the masters of these tests are to say that they are alive.
const beat = 100 * time.Millisecond

// manager is what a service manager hears: sd_notify(3). It listens all the time.
type manager struct {
	t     *testing.T
	path  string
	words chan word // as they came; far more than a test lets come
}

// word is a message and the process that sent it, by the kernel's account.
type word struct {
	pid   int
	lines []string
}

func startManager(t *testing.T) *manager {
	t.Helper()
	m := &manager{t: t, path: filepath.Join(harness.Dir(t), "notify"), words: make(chan word, 100_000)}
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: m.path, Net: "unixgram"})
	kit.Must(t, err)
	raw, err := conn.SyscallConn()
	kit.Must(t, err)
	kit.Must(t, raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PASSCRED, 1) }))
	kit.Must(t, err)
	listened := make(chan struct{})
	go func() {
		defer close(listened)
		m.listen(conn)
	}()
	t.Cleanup(func() { conn.Close(); <-listened })
	return m
}

// listen ends with the socket.
func (m *manager) listen(conn *net.UnixConn) {
	buf, oob := make([]byte, 4096), make([]byte, 1024)
	for {
		n, oobn, _, _, err := conn.ReadMsgUnix(buf, oob)
		if err != nil {
			return
		}
		w := word{lines: strings.Split(string(buf[:n]), "\n")}
		if msgs, err := unix.ParseSocketControlMessage(oob[:oobn]); err == nil && len(msgs) > 0 {
			if cred, err := unix.ParseUnixCredentials(&msgs[0]); err == nil {
				w.pid = int(cred.Pid)
			}
		}
		m.words <- w
	}
}

// hear returns the next message that comes within a time.
func (m *manager) hear(within time.Duration) (word, bool) {
	timer := time.NewTimer(within)
	defer timer.Stop()
	select {
	case w := <-m.words:
		return w, true
	case <-timer.C:
		return word{}, false
	}
}

// await waits until a process has said a line so many times from here on.
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

// forget drops what was sent up to now: all that comes before a word of the test's own.
func (m *manager) forget() {
	m.t.Helper()
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: m.path, Net: "unixgram"})
	kit.Must(m.t, err)
	defer conn.Close()
	_, err = conn.Write([]byte("X_TEST=1"))
	kit.Must(m.t, err)
	m.await(os.Getpid(), 1, "X_TEST=1")
}

// startWatched is a server that a service manager with a watchdog has started.
func startWatched(t *testing.T) (*harness.Server, *manager) {
	t.Helper()
	m := startManager(t)
	watched := func(s *harness.Server, cmd *exec.Cmd) { // WATCHDOG_PID is known to the process itself only
		script := s.Script(`WATCHDOG_PID=$$ exec "$@"`)
		cmd.Path, cmd.Args = script, append([]string{script, s.Binary}, cmd.Args[1:]...)
	}
	s := harness.Start(t, harness.Default(t).With("start_timeout: 30s"), watched,
		harness.Env("NOTIFY_SOCKET="+m.path), harness.Env(fmt.Sprint("WATCHDOG_USEC=", 3*beat.Microseconds())))
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
