package control

import (
	"bufio"
	"context"
	"errors"
	"io"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"reuseportd/internal/rundir/rundirtest"
)

func TestDialWithoutMaster(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "none")
	_, err := Dial(dir, false)
	if !errors.Is(err, ErrNoMaster) || !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), "--runtime-dir") {
		t.Errorf("got %v", err)
	}
}

func TestMasterEndsWithoutAnswer(t *testing.T) {
	for _, cmd := range Commands {
		dir := t.TempDir()
		l, err := Listen(rundirtest.Open(t, dir))
		if err != nil {
			t.Fatal(err)
		}
		died := make(chan struct{})
		go func() { // a master that dies between request and answer
			defer close(died)
			conn, err := l.Accept()
			if err != nil {
				t.Error(err)
				return
			}
			bufio.NewReader(conn).ReadString('\n')
			conn.Close()
		}()
		_, err = dial(t, dir).Do(t.Context(), Request{Command: cmd})
		<-died
		l.Close()
		if err == nil || !strings.Contains(err.Error(), cmd+": the master ended without an answer") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", cmd, err)
		}
		change := cmd == "reload" || cmd == "upgrade"
		if errors.Is(err, ErrUnknownOutcome) != change || change && !strings.Contains(err.Error(), "see `reuseportd status`") {
			t.Errorf("%s: %v", cmd, err)
		}
	}
}

func TestClientGivesUp(t *testing.T) {
	release := make(chan struct{})
	dir, _ := start(t, func(ctx context.Context, req Request) Response {
		<-release
		return echoCause(ctx, req)
	})
	defer close(release)
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(10*time.Millisecond, cancel)
	_, err := dial(t, dir).Do(ctx, Request{Command: "reload"})
	if !errors.Is(err, context.Canceled) || !errors.Is(err, ErrUnknownOutcome) {
		t.Errorf("got %v", err)
	}
}

func TestGarbledAnswer(t *testing.T) {
	dir := t.TempDir()
	l, err := Listen(rundirtest.Open(t, dir))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		conn, err := l.Accept()
		if err != nil {
			return
		}
		bufio.NewReader(conn).ReadString('\n')
		io.WriteString(conn, "hello\n")
		conn.Close()
	}()
	_, err = dial(t, dir).Do(t.Context(), Request{Command: "status"})
	if err == nil || !strings.Contains(err.Error(), "not understood") {
		t.Errorf("got %v", err)
	}
	<-done
}
