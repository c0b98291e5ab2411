package wire

import (
	"bytes"
	"errors"
	"testing"

	"golang.org/x/sys/unix"
)

func TestMemfdKeepsItsContents(t *testing.T) {
	for _, want := range [][]byte{nil, []byte("workers: 2\n"), bytes.Repeat([]byte("x"), 1<<20)} {
		fd, err := Memfd("test", want)
		if err != nil {
			t.Fatal(err)
		}
		got, err := ReadMemfd(fd)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("got %d bytes, %v, want %d", len(got), err, len(want))
		}
		if _, err := unix.Pwrite(fd, []byte("y"), 0); !errors.Is(err, unix.EPERM) {
			t.Errorf("write: %v", err)
		}
		if err := unix.Ftruncate(fd, 1<<21); !errors.Is(err, unix.EPERM) {
			t.Errorf("truncate: %v", err)
		}
		_ = unix.Close(fd)
	}
	if _, err := Memfd("test", make([]byte, MaxMemfd+1)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("got %v", err)
	}
}

func TestReadMemfdInsistsOnSeals(t *testing.T) {
	fd, err := unix.MemfdCreate("test", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if _, err := ReadMemfd(fd); err == nil {
		t.Error("read memory that can still change")
	}
	if err := unix.Ftruncate(fd, MaxMemfd+1); err != nil {
		t.Fatal(err)
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadMemfd(fd); !errors.Is(err, ErrTooLarge) {
		t.Errorf("got %v", err)
	}
	null, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(null)
	if _, err := ReadMemfd(null); err == nil {
		t.Error("read a device")
	}
}
