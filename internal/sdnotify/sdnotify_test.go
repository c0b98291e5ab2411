package sdnotify

import (
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestMessages(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	t.Setenv("NOTIFY_SOCKET", path)

	for _, test := range []struct {
		send func() error
		want string
	}{
		{func() error { return Ready(0) }, `READY=1`},
		{func() error { return Ready(42) }, `READY=1\nMAINPID=42`},
		{Stopping, `STOPPING=1`},
		{Reloading, `RELOADING=1\nMONOTONIC_USEC=[1-9][0-9]+`},
		{func() error { return Status("generation 2 serves\nREADY=1") }, `STATUS=generation 2 serves READY=1`},
	} {
		if err := test.send(); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 4096)
		n, err := conn.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		if got := string(buf[:n]); !regexp.MustCompile(`^` + test.want + `$`).MatchString(got) {
			t.Errorf("sent %q, want %s", got, test.want)
		}
	}
	if os.Getenv("NOTIFY_SOCKET") != path {
		t.Error("the next master would have nobody to notify")
	}
}

func TestMonotonicTimeIsNow(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	t.Setenv("NOTIFY_SOCKET", path)
	usec := func() int64 {
		var ts unix.Timespec
		if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
			t.Fatal(err)
		}
		return ts.Nano() / 1000
	}
	before := usec()
	if err := Reloading(); err != nil {
		t.Fatal(err)
	}
	after := usec()
	buf := make([]byte, 4096)
	n, err := conn.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	_, value, _ := strings.Cut(string(buf[:n]), "MONOTONIC_USEC=")
	if got := atoi(t, value); got < before || got > after {
		t.Errorf("%d is not in [%d, %d]", got, before, after)
	}
}

func TestWithoutServiceManager(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	if err := Ready(1); err != nil {
		t.Error(err)
	}
}

func TestServiceManagerIsGone(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", filepath.Join(t.TempDir(), "none"))
	if err := Stopping(); err == nil || !strings.Contains(err.Error(), "STOPPING=1") {
		t.Errorf("got %v", err)
	}
}

func atoi(t *testing.T, s string) int64 {
	t.Helper()
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestStoppedManager: nothing waits for a manager that reads nothing, and it hears all in order later.
func TestStoppedManager(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	t.Setenv("NOTIFY_SOCKET", path)
	n := 0
	for ; err == nil; n++ { // until its queue and ours are full
		err = Status(strconv.Itoa(n))
	}
	if n <= maxBehind {
		t.Fatalf("message %d: %v", n, err)
	}
	Flush(time.Millisecond)
	conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	for i := range n - 1 {
		buf := make([]byte, 100)
		got, err := conn.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		if want := "STATUS=" + strconv.Itoa(i); string(buf[:got]) != want {
			t.Fatalf("message %q, want %q", buf[:got], want)
		}
	}
	Flush(time.Minute)
}
