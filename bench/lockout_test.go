package main

import (
	"bufio"
	"net"
	"slices"
	"sync"
	"testing"
	"time"
)

const (
	okAnswer   = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
	busyAnswer = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 2\r\n\r\nno"
)

// keeper answers each request in the same way, and knows its connections.
type keeper struct {
	net.Listener
	mu    sync.Mutex
	conns []net.Conn
}

// keep starts one, whose answer is "" if it closes instead.
func keep(t *testing.T, answer string) *keeper {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	k := &keeper{Listener: l}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			k.mu.Lock()
			k.conns = append(k.conns, conn)
			k.mu.Unlock()
			serving.Go(func() { serve(conn, answer) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		k.end(0)
		serving.Wait()
	})
	return k
}

func serve(conn net.Conn, answer string) {
	for r := bufio.NewReader(conn); ; {
		line, err := r.ReadString('\n')
		if err == nil && line != "\r\n" {
			continue
		}
		if err != nil || answer == "" {
			_ = conn.Close()
			return
		}
		_, _ = conn.Write([]byte(answer))
	}
}

// end closes the connections from one on.
func (k *keeper) end(from int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, conn := range k.conns[min(from, len(k.conns)):] {
		_ = conn.Close()
	}
}

func (k *keeper) question() question {
	return question{address: k.Addr().String(), path: "/", fresh: true, timeout: time.Minute}
}

func TestArrive(t *testing.T) {
	k := keep(t, okAnswer)
	came, failed := arrive(t.Context(), k.question(), 10)
	if len(came) != 10 || failed != 0 || stillOpen(came) != 10 {
		t.Fatalf("%d came, %d failed, %d are open", len(came), failed, stillOpen(came))
	}
	came[0].close()
	k.end(6)
	for stillOpen(came) > 5 { // until their ends are here
		if t.Context().Err() != nil {
			t.Fatal("connections that have ended count as open")
		}
	}
	if n := stillOpen(came); n != 5 {
		t.Errorf("%d are open, want 5", n)
	}
	for _, a := range came {
		a.close()
	}
}

// An answer of failure is none, and nor is an end.
func TestArriveInVain(t *testing.T) {
	for _, answer := range []string{busyAnswer, ""} {
		if came, failed := arrive(t.Context(), keep(t, answer).question(), 3); len(came) != 0 || failed != 3 {
			t.Errorf("%q: %d came, %d failed", answer, len(came), failed)
		}
	}
}

func TestLockoutReadings(t *testing.T) {
	k := keep(t, okAnswer)
	c := &contender{doors: map[door]string{doorLockout: k.Addr().String()}}
	all, err := lockout(20)(t.Context(), nil, c, 50*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	for figure, want := range map[string]float64{
		"silent clients: came": 20, arrivalsFailed: 0, silentOpen: 20,
		phases[0] + ": " + probesFailed: 0, phases[1] + ": " + probesFailed: 0,
	} {
		i := slices.IndexFunc(all, func(r reading) bool { return r.figure == figure })
		if i < 0 || all[i].value != want {
			t.Errorf("%s: want %v in %+v", figure, want, all)
		}
	}
}
