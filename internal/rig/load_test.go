package rig

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestLoadOfAGoodServer(t *testing.T) {
	asked := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case asked <- struct{}{}:
		default:
		}
		_, _ = io.WriteString(w, "hello\n")
	}))
	defer s.Close()
	address := s.Listener.Addr().String()
	for _, start := range []func(context.Context, string, int) *Load{StartKept, StartFresh} {
		l := start(t.Context(), address, 3)
		for range 20 {
			<-asked
		}
		tally := l.Stop()
		n := 0
		for s := range l.Samples() {
			n++
			if s.Latency <= 0 {
				t.Errorf("latency %v", s.Latency)
			}
		}
		if want := (Tally{Answered: n}); tally != want || n < 20 {
			t.Errorf("%+v with %d samples", tally, n)
		}
	}
}

func TestCountLost(t *testing.T) {
	address, done := scripted(t, keptAnswer, keptAnswer, keptAnswer)
	conns, err := OpenIdle(t.Context(), address, 3)
	if err != nil {
		t.Fatal(err)
	}
	<-done
	if lost := CountLost(conns); lost != 3 {
		t.Errorf("%d lost, want 3", lost)
	}
	CloseAll(conns)
	if Serves(t.Context(), address, 1) {
		t.Error("nobody listens there")
	}
}

const keptAnswer = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"

// Each connection of a scripted server gets the next answer; after the last
// one the listener is closed, so that connects are refused.
func scripted(t *testing.T, answers ...string) (address string, done chan struct{}) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done = make(chan struct{})
	go func() {
		defer close(done)
		defer l.Close()
		for _, answer := range answers {
			conn, err := l.Accept()
			if err != nil {
				t.Error(err)
				return
			}
			_, _ = http.ReadRequest(bufio.NewReader(conn))
			_, _ = io.WriteString(conn, answer)
			_ = conn.Close()
		}
	}()
	return l.Addr().String(), done
}

func TestWhatIsLost(t *testing.T) {
	const whole = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello"
	address, done := scripted(t,
		"",                        // lost
		whole,                     // answered, closed
		whole[:len(whole)-1],      // lost in the body
		whole[:20],                // lost in the head
		strings.ToUpper(whole),    // field names have no case
		"HTTP/1.1 503 No\r\n\r\n", // not the answer
	)
	l := StartKept(t.Context(), address, 1)
	<-done
	got := l.Stop()
	got.Failed = 0 // as many as there was time for
	if want := (Tally{Answered: 2, Lost: 4, Closed: 2}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestSpread(t *testing.T) {
	for want, values := range map[string][]float64{
		"–":                  nil,
		"7.00":               {7},
		"2.50 (1.00…400)":    {400, 2, 1, 3},
		"-100 (-1000…20.00)": {20, -1000, -100},
	} {
		if got := SpreadOf(values).String(); got != want {
			t.Errorf("%v: %s, want %s", values, got, want)
		}
	}
}

func TestWrkAnswered(t *testing.T) {
	const answered = "  2 threads and 64 connections\n  123 requests in 1.00s, 1.00MB read\n"
	for out, want := range map[string]int{
		answered: 123,
		answered + "  Socket errors: connect 0, read 0, write 0, timeout 5\n": 0,
		answered + "  Non-2xx or 3xx responses: 7\n":                          0,
		"  0 requests in 1.00s, 0.00B read\n":                                 0,
		"unable to connect to 127.0.0.1:1 Connection refused\n":               0,
	} {
		if got, err := wrkAnswered([]byte(out)); got != want || (err == nil) != (want > 0) {
			t.Errorf("%d, %v of %q", got, err, out)
		}
	}
}
