package wire

import (
	"errors"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

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
