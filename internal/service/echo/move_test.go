package echo_test

import (
	"bytes"
	"io"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"reuseportd/internal/eventloop"
	"reuseportd/internal/service/echo"
)

// run runs a loop with an echo service until the test ends.
func run(t *testing.T) (*eventloop.Loop, *eventloop.Service) {
	t.Helper()
	l, err := eventloop.New(eventloop.Options{})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	s := l.NewService(echo.New(l, time.Hour), 0)
	go func() { done <- l.Run() }()
	t.Cleanup(func() {
		l.Post(l.Stop)
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return l, s
}

func on(l *eventloop.Loop, f func()) {
	done := make(chan struct{})
	l.Post(func() { f(); close(done) })
	<-done
}

// All that a client sent comes back, wherever the connection is by then.
func TestMove(t *testing.T) {
	from, first := run(t)
	to, second := run(t)
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.SetNonblock(pair[0], true); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pair[1])
	on(from, func() {
		c, err := from.Arrive(first, &eventloop.Parcel{FD: pair[0], File: -1, Kind: "echo.1"})
		if err != nil {
			t.Error(err)
			return
		}
		from.DrainTo(nil)
		from.Begin(c)
	})
	sent := bytes.Repeat([]byte("0123456789abcdef"), 1<<16) // more than the sockets hold
	wrote := make(chan struct{})
	go func() {
		defer close(wrote)
		for rest := sent; len(rest) > 0; {
			n, err := unix.Write(pair[1], rest)
			if err != nil {
				t.Error(err)
				return
			}
			rest = rest[n:]
		}
		_ = unix.Shutdown(pair[1], unix.SHUT_WR)
	}()
	got := make([]byte, 1000)
	if _, err := io.ReadFull(fdReader(pair[1]), got); err != nil {
		t.Fatal(err)
	}
	on(from, func() {
		ds := from.Depart(1)
		if len(ds) != 1 {
			t.Errorf("%d were given out", len(ds))
			return
		}
		p := ds[0].Parcel
		p.FD, err = unix.FcntlInt(uintptr(p.FD), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			t.Error(err)
		}
		on(to, func() {
			c, err := to.Arrive(second, &p)
			if err != nil {
				t.Error(err)
				return
			}
			defer to.Begin(c)
			if c.Loop() != to {
				t.Error("it belongs to another loop")
			}
		})
		from.Departed(&ds[0])
	})
	rest, err := io.ReadAll(fdReader(pair[1]))
	if got = append(got, rest...); err != nil || !bytes.Equal(got, sent) {
		t.Errorf("got %d bytes back of %d, error %v", len(got), len(sent), err)
	}
	<-wrote
}

// What no echo has is not let in: nobody would close the files.
func TestThawRefuses(t *testing.T) {
	l, s := run(t)
	on(l, func() {
		for _, p := range []eventloop.Parcel{
			{FD: 0, File: -1, Kind: "echo.1", Files: []int{0}},
			{FD: 0, File: -1, Kind: "echo.1", State: []byte("x")},
			{FD: 0, File: -1, Kind: "echo.2"},
		} {
			if _, err := l.Arrive(s, &p); err == nil || l.Open() != 0 {
				t.Errorf("%+v was let in, %d are open", p, l.Open())
			}
		}
	})
}

// fdReader reads a blocking descriptor.
type fdReader int

func (fd fdReader) Read(p []byte) (int, error) {
	n, err := unix.Read(int(fd), p)
	if n == 0 && err == nil {
		err = io.EOF
	}
	return max(n, 0), err
}
