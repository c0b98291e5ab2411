package logging

import (
	"bufio"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"reuseportd/internal/config"
)

// pipe is a pipe and an output that writes to it.
func pipe(t *testing.T) (*os.File, *Output) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Dup(int(w.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	w.Close()
	o := NewOutput(fd, File{Dev: 1, Ino: 2})
	t.Cleanup(func() { r.Close() })
	return r, o
}

// leave retires an output and waits until it has closed its file.
func leave(o *Output) {
	o.Retire()
	for retired.Load() > 0 {
		time.Sleep(time.Millisecond)
	}
}

func role(c zerolog.Context) zerolog.Context { return c.Str("role", "test") }

// TestStalledReader: lines are dropped beyond the bound, the others are whole and in order, and the
// drops are told, each once, when they are read.
func TestStalledReader(t *testing.T) {
	r, o := pipe(t)
	log := o.Logger(config.Log{Level: "info", Format: "json"}, role)
	before := Dropped()
	const lines = 4000
	for i := range lines {
		log.Info().Int("n", i).Str("fill", strings.Repeat("x", 200)).Msg("line")
	}
	lost := Dropped() - before
	if lost == 0 || lost == lines {
		t.Fatalf("%d of %d lines dropped", lost, lines)
	}
	for start := time.Now(); o.Stalled(start.Add(time.Hour)).IsZero(); { // it has come to the pipe's end by then
		time.Sleep(time.Millisecond)
	}
	in, next := bufio.NewReader(r), uint64(0)
	for told := false; !told; {
		line, err := in.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case strings.Contains(line, `"message":"line"`):
			next++
		case strings.Contains(line, `"role":"test","lines":`) && strings.Contains(line, "dropped"):
			told = true
		default:
			t.Fatalf("line %q", line)
		}
	}
	if next != lines-lost {
		t.Errorf("%d lines came before it was told of %d that were dropped, want %d", next, lost, lines-lost)
	}
	leave(o)
	if _, err := in.ReadByte(); err == nil {
		t.Error("told more than once, or the file was not closed")
	}
}

// TestFlush waits for what was written, but not for ever.
func TestFlush(t *testing.T) {
	r, o := pipe(t)
	o.Write([]byte("here\n"))
	o.Flush(time.Minute)
	b := make([]byte, 100)
	if n, _ := r.Read(b); string(b[:n]) != "here\n" {
		t.Errorf("read %q after the flush", b[:n])
	}
	o.Write([]byte(strings.Repeat("x", 200<<10) + "\n"))
	o.Flush(time.Millisecond)
	r.Close() // the writer gets EPIPE
	leave(o)
}

// TestFailingFile: what can't be written is counted, and told with the reason.
func TestFailingFile(t *testing.T) {
	full, err := unix.Open("/dev/full", unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Skipf("this system has no /dev/full: %v", err)
	}
	o := NewOutput(full, File{})
	log := o.Logger(config.Log{Level: "error", Format: "text"}, role)
	before := Dropped()
	log.Error().Msg("one")
	log.Error().Msg("two")
	o.Flush(time.Minute)
	if n := Dropped() - before; n != 2 {
		t.Errorf("%d lines dropped, want 2", n)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := unix.Dup3(int(w.Fd()), full, unix.O_CLOEXEC); err != nil { // somebody has made room
		t.Fatal(err)
	}
	w.Close()
	log.Error().Msg("three")
	in := bufio.NewReader(r)
	for _, want := range []string{"three", "no space left on device"} {
		if line, err := in.ReadString('\n'); err != nil || !strings.Contains(line, want) {
			t.Errorf("line %q, %v; want %s", line, err, want)
		}
	}
	leave(o)
}
