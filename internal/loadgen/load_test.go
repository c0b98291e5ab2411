package loadgen

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// server counts what comes, and tells of each request.
func server(t *testing.T) (s *httptest.Server, address netip.AddrPort, accepted *atomic.Uint64, asked chan struct{}) {
	t.Helper()
	asked = make(chan struct{})
	s = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "hello\n")
		select {
		case asked <- struct{}{}:
		default:
		}
	}))
	accepted = new(atomic.Uint64)
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			accepted.Add(1)
		}
	}
	s.Start()
	t.Cleanup(s.Close)
	return s, netip.MustParseAddrPort(s.Listener.Addr().String()), accepted, asked
}

func TestLoads(t *testing.T) {
	for name, c := range map[string]Config{
		"churn":      {Connections: 5, Threads: 2},
		"kept":       {Connections: 5, Threads: 2, Kept: true},
		"paced":      {Connections: 100, Threads: 2, Rate: 1000},
		"together":   {Connections: 5, Threads: 2, Kept: true, Together: true},
		"kept paced": {Connections: 5, Threads: 2, Kept: true, Rate: 1000},
	} {
		t.Run(name, func(t *testing.T) {
			_, address, accepted, asked := server(t)
			c.Address = address
			l, err := Start(c)
			if err != nil {
				t.Fatal(err)
			}
			l.Record()
			for c.Kept && l.Counts().Connects < 5 {
				time.Sleep(time.Millisecond) // one thread may be at work before another
			}
			for range 50 {
				<-asked
			}
			l.EndRecord()
			r := l.Stop()
			if r.Failed != 0 || r.Lost != 0 || r.Answered < 50 || r.Connects != accepted.Load() {
				t.Errorf("%+v, of %d accepted", r.Counts, accepted.Load())
			}
			if c.Kept != (r.Connects == 5) || !c.Kept && r.Answered != r.Connects {
				t.Errorf("%+v", r.Counts)
			}
			if n := r.Latency.TotalCount(); n == 0 || n > int64(r.Answered) || r.Latency.Min() <= 0 {
				t.Errorf("%d latencies of %d answers, the least %d ns", n, r.Answered, r.Latency.Min())
			}
			if (c.Rate > 0) != (r.Late.TotalCount() > 0) {
				t.Errorf("%d delays", r.Late.TotalCount())
			}
		})
	}
}

// A server that holds up a paced load doesn't hold up its clock: what was due
// meanwhile counts from then.
func TestStallCountsFromTheDueTime(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	load, err := Start(Config{Address: netip.MustParseAddrPort(l.Addr().String()), Connections: 1, Threads: 1, Rate: 1000})
	if err != nil {
		t.Fatal(err)
	}
	load.Record()
	first, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	const stall = 50 * time.Millisecond // the quantity that is measured
	time.Sleep(stall)
	answer(first)
	for range 20 {
		next, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		answer(next)
	}
	load.EndRecord()
	go func() { // whatever else it has begun
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			answer(conn)
		}
	}()
	r := load.Stop()
	// Most of what was due in the window was due well before the stall's end.
	if slow := r.Latency.ValueAtPercentile(50); slow < int64(stall/5) {
		t.Errorf("the median is %v after a stall of %v", time.Duration(slow), stall)
	}
}

func answer(conn net.Conn) {
	defer conn.Close()
	buf := make([]byte, 1024)
	_, _ = conn.Read(buf)
	_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx")
}

func TestWhatIsNoAnswer(t *testing.T) {
	for name, text := range map[string]string{
		"status":   "HTTP/1.1 503 Busy\r\nContent-Length: 1\r\n\r\nx",
		"no head":  "HTTP/1.1 200 OK\r\n",
		"no body":  "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nx",
		"too much": "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nxyz",
		"nothing":  "",
	} {
		l, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		enough := make(chan struct{})
		go func() {
			for i := 0; ; i++ {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				_, _ = conn.Read(make([]byte, 1024))
				_, _ = io.WriteString(conn, text)
				conn.Close()
				if i == 3 {
					close(enough)
				}
			}
		}()
		load, err := Start(Config{Address: netip.MustParseAddrPort(l.Addr().String()), Connections: 1, Threads: 1})
		if err != nil {
			t.Fatal(err)
		}
		<-enough
		r := load.Stop()
		l.Close()
		if name != "too much" && r.Answered != 0 || r.Lost+r.Answered != r.Connects || r.Connects < 3 {
			t.Errorf("%s: %+v", name, r.Counts)
		}
	}
}

func TestRefusedConnectsAreCounted(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := netip.MustParseAddrPort(l.Addr().String())
	l.Close()
	load, err := Start(Config{Address: address, Connections: 2, Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	for load.Counts().Failed < 4 {
		time.Sleep(time.Millisecond)
	}
	if r := load.Stop(); r.Connects != 0 || r.Answered != 0 {
		t.Errorf("%+v", r.Counts)
	}
}

func TestConfigs(t *testing.T) {
	good := netip.MustParseAddrPort("127.0.0.1:1")
	for _, c := range []Config{
		{Address: netip.MustParseAddrPort("[::1]:1"), Connections: 1, Threads: 1},
		{Address: good, Threads: 1},
		{Address: good, Connections: 1},
		{Address: good, Connections: 1, Threads: 1, Echo: -1},
		{Address: good, Connections: 1, Threads: 1, Rate: -1},
	} {
		if _, err := Start(c); err == nil || !strings.HasPrefix(err.Error(), "load") {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

func TestAnswerLength(t *testing.T) {
	for text, want := range map[string]int{
		"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc": 41,
		"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc": 41,
		"HTTP/1.1 200 OK\r\n\r\nContent-Length: 3\r\n":    0,
		"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n":    0,
		"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n":        0,
	} {
		if got := answerLength([]byte(text)); got != want {
			t.Errorf("%q: %d, want %d", text, got, want)
		}
	}
}

// Who gets no answer waits for ever: however soon he is told, and whether or not he could ask.
func TestNoAnswerIsTheLongest(t *testing.T) {
	silent := func(net.Listener) {} // connections stay in its queue
	refuses := func(l net.Listener) { l.Close() }
	closes := func(l net.Listener) {
		for conn, err := l.Accept(); err == nil; conn, err = l.Accept() {
			conn.Close()
		}
	}
	for name, c := range map[string]struct {
		Config
		serve func(net.Listener)
	}{
		"closed":             {Config{Connections: 1000}, closes},
		"closed, kept":       {Config{Connections: 10, Kept: true}, closes},
		"refused":            {Config{Connections: 1000}, refuses},
		"not answered":       {Config{Connections: 1000}, silent},
		"not answered, kept": {Config{Connections: 1, Kept: true}, silent},
		"not begun":          {Config{Connections: 1}, silent},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, err := net.Listen("tcp4", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			go c.serve(l)
			c.Address, c.Threads, c.Rate = netip.MustParseAddrPort(l.Addr().String()), 1, 1000
			load, err := Start(c.Config)
			if err != nil {
				t.Fatal(err)
			}
			load.Record()
			time.Sleep(50 * time.Millisecond) // in which 50 requests are due: what is measured
			load.EndRecord()
			r := load.Stop()
			if n := r.Latency.TotalCount(); r.Answered != 0 || n < 49 || uint64(n) > r.Lost+r.Failed {
				t.Errorf("%d latencies: %+v", n, r.Counts)
			}
			if least := time.Duration(r.Latency.Min()); least < Longest*99/100 {
				t.Errorf("the least latency is %v", least)
			}
		})
	}
}
