package wire

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// pair returns both ends of a channel in this process, closed with the test,
// which fails if it leaves more descriptors open than it found.
func pair(t *testing.T) (a, b *Conn) {
	t.Helper()
	before := openFDs(t)
	a, file, err := Pair()
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.FcntlInt(file.Fd(), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	if b, err = FromFD(fd); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = a.Close()
		_ = b.Close()
		if after := openFDs(t); len(after) > len(before) {
			t.Errorf("%d descriptors before, %d after: %v", len(before), len(after), after)
		}
	})
	return a, b
}

// openFDs returns what is open, by descriptor, but for the runtime's poller.
func openFDs(t *testing.T) map[int]string {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	fds := map[int]string{}
	for _, e := range entries {
		n, _ := strconv.Atoi(e.Name())
		target, err := os.Readlink("/proc/self/fd/" + e.Name())
		if err != nil || strings.HasPrefix(target, "/proc/") || strings.HasPrefix(target, "anon_inode:[event") {
			continue // the directory that was read, and the poller
		}
		fds[n] = target
	}
	return fds
}

// files opens n descriptors that are closed with the test.
func files(t *testing.T, n int) []int {
	t.Helper()
	fds := make([]int, n)
	for i := range fds {
		fd, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		fds[i] = fd
		t.Cleanup(func() { _ = unix.Close(fd) })
	}
	return fds
}

func TestMessageArrivesAsSent(t *testing.T) {
	a, b := pair(t)
	want := Lend{Seq: 7, Leases: []Lease{{Key: "tcp4!127.0.0.1:80", Index: 1, Slot: 3}}}
	fds := files(t, 2)
	if err := a.Send(KindLend, want, fds...); err != nil {
		t.Fatal(err)
	}
	m, err := b.Recv()
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	var got Lend
	if err := m.Decode(&got); err != nil {
		t.Fatal(err)
	}
	if m.Version != Version || m.Kind != KindLend || fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got version %d, %s %+v", m.Version, m.Kind, got)
	}
	if len(m.FDs) != len(fds) {
		t.Fatalf("got %d descriptors", len(m.FDs))
	}
	for _, fd := range m.FDs {
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
		if err != nil || flags&unix.FD_CLOEXEC == 0 {
			t.Errorf("descriptor %d: flags %#x, %v: want close-on-exec", fd, flags, err)
		}
	}
}

func TestTakenDescriptorsAreTheCallers(t *testing.T) {
	a, b := pair(t)
	if err := a.Send(KindLogs, nil, files(t, 2)...); err != nil {
		t.Fatal(err)
	}
	m, err := b.Recv()
	if err != nil {
		t.Fatal(err)
	}
	fd := m.Take(1)
	m.Close()
	m.Close()
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil {
		t.Errorf("taken descriptor: %v", err)
	}
	_ = unix.Close(fd)
	if m.Take(1) != -1 || m.Take(0) != -1 || m.Take(2) != -1 || m.Take(-1) != -1 {
		t.Error("took a descriptor that isn't there")
	}
}

func TestAsManyDescriptorsAsTheKernelPasses(t *testing.T) {
	a, b := pair(t)
	fds := files(t, MaxFDs)
	if err := a.Send(KindLend, Lend{}, fds...); err != nil {
		t.Fatal(err)
	}
	m, err := b.Recv()
	if err != nil {
		t.Fatal(err)
	}
	if len(m.FDs) != MaxFDs {
		t.Errorf("got %d descriptors", len(m.FDs))
	}
	m.Close()
	if err := a.Send(KindLend, Lend{}, append(fds, fds[0])...); !errors.Is(err, ErrTooLarge) {
		t.Errorf("one more: %v", err)
	}
}

func TestLargestBody(t *testing.T) {
	a, b := pair(t)
	text := strings.Repeat("x", MaxBody-2) // and two quotes
	if err := a.Send(KindBye, text); err != nil {
		t.Fatal(err)
	}
	m, err := b.Recv()
	if err != nil || len(m.Body) != MaxBody {
		t.Errorf("got %d bytes, %v", len(m.Body), err)
	}
	if err := a.Send(KindBye, text+"x"); !errors.Is(err, ErrTooLarge) {
		t.Errorf("one more: %v", err)
	}
}

// TestBadDatagrams sends what Send would not, each with a descriptor, and
// expects the error, no descriptor left over, and a channel that still works.
func TestBadDatagrams(t *testing.T) {
	head := func(version uint16, kind Kind, fds, length int, body string) []byte {
		return append(header{version, kind, fds, length}.appendTo(nil), body...)
	}
	reserved := head(Version, KindPing, 1, 2, "{}")
	reserved[10] = 1
	for name, c := range map[string]struct {
		datagram []byte
		fds      int
		want     error
	}{
		"too short":       {[]byte("RPDW"), 1, ErrMalformed},
		"empty":           {nil, 1, ErrMalformed},
		"no magic":        {make([]byte, 32), 1, ErrMalformed},
		"version 0":       {head(0, KindPing, 1, 2, "{}"), 1, ErrMalformed},
		"short body":      {head(Version, KindPing, 1, 3, "{}"), 1, ErrMalformed},
		"long body":       {head(Version, KindPing, 1, 1, "{}"), 1, ErrMalformed},
		"fewer fds":       {head(Version, KindPing, 2, 2, "{}"), 1, ErrMalformed},
		"more fds":        {head(Version, KindPing, 0, 2, "{}"), 1, ErrMalformed},
		"impossible fds":  {head(Version, KindPing, 9999, 2, "{}"), 1, ErrMalformed},
		"reserved bits":   {reserved, 1, ErrMalformed},
		"larger than can": {head(Version, KindPing, 1, MaxBody+1, strings.Repeat("x", MaxBody+1)), 1, ErrTruncated},
	} {
		t.Run(name, func(t *testing.T) {
			a, b := pair(t)
			if err := a.send(c.datagram, files(t, c.fds)); err != nil {
				t.Fatal(err)
			}
			expectError(t, b, c.want)
			expectPing(t, a, b)
		})
	}
}

func expectError(t *testing.T, c *Conn, want error) {
	t.Helper()
	before := openFDs(t)
	m, err := c.Recv()
	if !errors.Is(err, want) || m.FDs != nil {
		t.Errorf("got %v with descriptors %v, want %v", err, m.FDs, want)
	}
	if after := openFDs(t); len(after) != len(before) {
		t.Errorf("descriptors: %v, then %v", before, after)
	}
}

func expectPing(t *testing.T, from, to *Conn) {
	t.Helper()
	if err := from.Send(KindPing, Ping{Seq: 1}); err != nil {
		t.Fatal(err)
	}
	if m, err := to.Recv(); err != nil || m.Kind != KindPing {
		t.Errorf("got %s, %v", m.Kind, err)
	}
}

func TestNewerReleaseIsAnswered(t *testing.T) {
	for _, h := range []header{
		{version: Version + 1, kind: KindPing, fds: 1},
		{version: Version + 1, kind: 999, fds: 1},
		{version: Version, kind: 999, fds: 1},
	} {
		a, b := pair(t)
		if err := a.send(h.appendTo(nil), files(t, 1)); err != nil {
			t.Fatal(err)
		}
		m, err := b.Recv()
		unknown, ok := IsUnknown(err)
		if !ok || unknown != (Unknown{h.version, h.kind}) || m.Kind != h.kind {
			t.Fatalf("version %d kind %d: %v, %+v", h.version, h.kind, err, unknown)
		}
		if err := b.Send(KindUnknown, unknown); err != nil {
			t.Fatal(err)
		}
		if m, err := a.Recv(); err != nil || m.Kind != KindUnknown {
			t.Errorf("answer: %s, %v", m.Kind, err)
		}
		expectPing(t, a, b)
	}
}

// TestDescriptorLimitIsAnError receives three descriptors with room for one.
func TestDescriptorLimitIsAnError(t *testing.T) {
	a, b := pair(t)
	if err := a.Send(KindLogs, nil, files(t, 3)...); err != nil {
		t.Fatal(err)
	}
	next, err := unix.FcntlInt(0, unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		t.Fatal(err)
	}
	_ = unix.Close(next)
	var old unix.Rlimit
	if err := unix.Prlimit(0, unix.RLIMIT_NOFILE, nil, &old); err != nil {
		t.Fatal(err)
	}
	low := unix.Rlimit{Cur: uint64(next) + 1, Max: old.Max}
	if err := unix.Prlimit(0, unix.RLIMIT_NOFILE, &low, nil); err != nil {
		t.Fatal(err)
	}
	_, err = b.Recv()
	if rerr := unix.Prlimit(0, unix.RLIMIT_NOFILE, &old, nil); rerr != nil {
		t.Fatal(rerr)
	}
	if !errors.Is(err, ErrTruncated) {
		t.Errorf("got %v", err)
	}
	expectPing(t, a, b)
}

func TestPeerDeathIsEOFAfterItsLastMessage(t *testing.T) {
	a, b := pair(t)
	if err := a.Send(KindBye, Bye{"done"}); err != nil {
		t.Fatal(err)
	}
	// Unread on a's side, so that b gets ECONNRESET as well.
	if err := b.Send(KindPing, Ping{}); err != nil {
		t.Fatal(err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if m, err := b.Recv(); err != nil || m.Kind != KindBye {
		t.Fatalf("got %s, %v", m.Kind, err)
	}
	for range 2 {
		if _, err := b.Recv(); !errors.Is(err, io.EOF) {
			t.Errorf("got %v, want EOF", err)
		}
		if err := b.Send(KindPing, Ping{}); !errors.Is(err, ErrGone) {
			t.Errorf("send: %v", err)
		}
	}
}

func TestStopReadingLosesNothing(t *testing.T) {
	a, b := pair(t)
	const messages = 2000
	sent := make(chan error, 1)
	go func() {
		for i := range messages {
			if err := a.Send(KindPing, Ping{Seq: uint64(i)}); err != nil {
				sent <- err
				return
			}
		}
		sent <- nil
	}()
	stop := make(chan struct{})
	var stopper sync.WaitGroup
	stopper.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				_ = b.StopReading()
			}
		}
	})
	stops := 0
	for next := 0; next < messages; {
		m, err := b.Recv()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			stops++
			_ = b.ResumeReading()
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		var p Ping
		if err := m.Decode(&p); err != nil || p.Seq != uint64(next) {
			t.Fatalf("got message %d, %v, want %d", p.Seq, err, next)
		}
		next++
	}
	close(stop)
	stopper.Wait()
	if err := <-sent; err != nil {
		t.Error(err)
	}
	if stops == 0 {
		t.Error("never interrupted")
	}
}

func TestStopReadingEndsABlockedRecv(t *testing.T) {
	a, b := pair(t)
	got := make(chan error)
	go func() {
		_, err := b.Recv()
		got <- err
	}()
	if err := b.StopReading(); err != nil {
		t.Fatal(err)
	}
	if err := <-got; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	if err := b.ResumeReading(); err != nil {
		t.Fatal(err)
	}
	expectPing(t, a, b)
}

func TestDuplicateReadsOn(t *testing.T) {
	a, b := pair(t)
	if err := b.StopReading(); err != nil {
		t.Fatal(err)
	}
	if err := a.Send(KindPing, Ping{Seq: 1}); err != nil {
		t.Fatal(err)
	}
	fd, err := b.Dup()
	if err != nil {
		t.Fatal(err)
	}
	next, err := FromFD(fd)
	if err != nil {
		t.Fatal(err)
	}
	defer next.Close()
	_ = b.Close()
	if m, err := next.Recv(); err != nil || m.Kind != KindPing {
		t.Errorf("got %s, %v", m.Kind, err)
	}
	expectPing(t, a, next)
}

func TestWriteDeadline(t *testing.T) {
	a, b := pair(t)
	if err := a.SetWriteDeadline(time.Now().Add(20 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	body := strings.Repeat("x", MaxBody/2)
	n := 0
	var err error
	for ; err == nil; n++ {
		if n > 1000 {
			t.Fatal("the queue never fills")
		}
		err = a.Send(KindBye, body)
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	for range n - 1 {
		if m, err := b.Recv(); err != nil || len(m.Body) != len(body)+2 {
			t.Fatalf("got %d bytes, %v", len(m.Body), err)
		}
	}
	_ = a.SetWriteDeadline(time.Time{})
	expectPing(t, a, b)
}

func TestConcurrentSends(t *testing.T) {
	a, b := pair(t)
	const senders, each = 8, 100
	var wg sync.WaitGroup
	for s := range senders {
		wg.Go(func() {
			for i := range each {
				if err := a.Send(KindPing, Ping{Seq: uint64(s*each + i)}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	seen := map[uint64]bool{}
	for range senders * each {
		m, err := b.Recv()
		if err != nil {
			t.Fatal(err)
		}
		var p Ping
		if err := m.Decode(&p); err != nil || seen[p.Seq] {
			t.Fatalf("message %d: %v", p.Seq, err)
		}
		seen[p.Seq] = true
	}
	wg.Wait()
}

func TestFromFDRefusesWhatIsNoChannel(t *testing.T) {
	before := openFDs(t)
	for _, typ := range []int{unix.SOCK_STREAM, unix.SOCK_DGRAM} {
		fds, err := unix.Socketpair(unix.AF_UNIX, typ|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		_ = unix.Close(fds[1])
		if _, err := FromFD(fds[0]); err == nil {
			t.Errorf("took a socket of type %d", typ)
		}
	}
	fd, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := FromFD(fd); !errors.Is(err, unix.ENOTSOCK) {
		t.Errorf("got %v", err)
	}
	if after := openFDs(t); len(after) != len(before) {
		t.Errorf("descriptors: %v, then %v", before, after)
	}
}

func TestEveryKindHasAName(t *testing.T) {
	names := map[string]Kind{}
	for k, name := range kindNames {
		if other, ok := names[name]; ok || !k.Known() || k.String() != name {
			t.Errorf("kind %d is %q, as is %d", k, name, other)
		}
		names[name] = k
	}
	if Kind(0).Known() || Kind(999).String() != "kind 999" {
		t.Error("an unknown kind has a name")
	}
}
