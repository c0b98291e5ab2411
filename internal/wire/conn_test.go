package wire

import (
	"errors"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestPeerDeathIsEOFAfterItsLastMessage(t *testing.T) {
	a, b := pair(t)
	if err := a.Send(KindBye, Bye{Reason: "done"}); err != nil {
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
