package meter

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// server is an honest HTTP and echo server whose faults the tests add.
type server struct {
	http, echo string

	each      func(n int64, c *net.TCPConn) bool // before the n-th answer; false ends the connection
	body      func(n int64, path string) string
	idleLimit time.Duration
	forgets   bool                               // that a request has a body
	echoes    func(total int64, b []byte) []byte // what is sent back for b
	requests  atomic.Int64
	files     sync.Map // bodies by path
	conns     sync.Map
	done      sync.WaitGroup
}

func (s *server) start(t *testing.T) *server {
	t.Helper()
	serve := func(handle func(*net.TCPConn)) string {
		var lc net.ListenConfig
		lc.SetMultipathTCP(false)
		l, err := lc.Listen(context.Background(), "tcp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		s.done.Go(func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				s.conns.Store(c, nil)
				s.done.Go(func() {
					defer s.conns.Delete(c)
					defer c.Close()
					handle(c.(*net.TCPConn))
				})
			}
		})
		return l.Addr().String()
	}
	t.Cleanup(func() {
		s.conns.Range(func(c, _ any) bool { c.(net.Conn).Close(); return true })
		s.done.Wait()
	})
	s.http, s.echo = serve(s.serveHTTP), serve(s.serveEcho)
	return s
}

func (s *server) serveHTTP(c *net.TCPConn) {
	r := bufio.NewReader(c)
	for {
		if s.idleLimit > 0 && s.requests.Load() > 0 { // not before Start has its answer
			_ = c.SetReadDeadline(time.Now().Add(s.idleLimit))
		}
		req, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		if s.forgets {
			req.Body = http.NoBody
		}
		_, _ = io.Copy(io.Discard, req.Body)
		n := s.requests.Add(1)
		if s.each != nil && !s.each(n, c) {
			return
		}
		body := "hello from " + req.URL.Path
		if s.body != nil {
			body = s.body(n, req.URL.Path)
		}
		if file, ok := s.files.Load(req.URL.Path); ok {
			body = file.(string)
		}
		head := ""
		if req.Close {
			head = "Connection: close\r\n"
		}
		fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n%s\r\n%s", len(body), head, body)
		if req.Close {
			return
		}
	}
}

func (s *server) serveEcho(c *net.TCPConn) {
	buf := make([]byte, 8192)
	var total int64
	for {
		n, err := c.Read(buf)
		b := buf[:n]
		if s.echoes != nil {
			b = s.echoes(total, b)
		}
		total += int64(n)
		if _, err := c.Write(b); err != nil {
			return
		}
		if err != nil {
			return
		}
	}
}

func reset(c *net.TCPConn) {
	_ = c.SetLinger(0)
	c.Close()
}

// measure runs clients against s for d, with marks in between.
func measure(t *testing.T, d time.Duration, cfg Config) *Result {
	t.Helper()
	m, err := Start(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 4 {
		time.Sleep(d / 4)
		m.Mark("mark %d", i)
	}
	r := m.Stop()
	t.Logf("\n%v", r)
	return r
}

// withDownload has the server serve 8 MiB at /big, and lets a client fetch it.
func withDownload(t *testing.T, s *server, cfg *Config) {
	t.Helper()
	big := make([]byte, 8<<20)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(big) // never fails
	cfg.DownloadFile = filepath.Join(t.TempDir(), "big")
	if err := os.WriteFile(cfg.DownloadFile, big, 0o600); err != nil {
		t.Fatal(err)
	}
	cfg.Download, cfg.DownloadPath, cfg.DownloadRate = 1, "/big", 32<<20
	s.files.Store("/big", string(big))
}

func TestHonestServerLosesNothing(t *testing.T) {
	s := new(server).start(t)
	cfg := Defaults(s.http, s.echo)
	cfg.Paths = []string{"/", "/a", "/b"}
	cfg.Strict, cfg.Idle = true, 500
	withDownload(t, s, &cfg)
	r := measure(t, 2*time.Second, cfg)
	if r.Lost() != 0 {
		t.Errorf("lost %d of an honest server's", r.Lost())
	}
	for _, k := range Kinds {
		if s := r.Kind(k); s.Requests == 0 || s.Connections == 0 || s.P50 == 0 {
			t.Errorf("%s did nothing: %+v", k, s)
		}
	}
}

// A server that is not ours, with timers and buffers of its own.
func TestNetHTTPLosesNothing(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, strings.Repeat(r.URL.Path, 2000)) // chunked
	})}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	cfg := Defaults(l.Addr().String(), "")
	cfg.Paths = []string{"/", "/b"}
	if r := measure(t, time.Second, cfg); r.Lost() != 0 {
		t.Errorf("lost %d of net/http's", r.Lost())
	}
	if err := srv.Close(); err != nil {
		t.Error(err)
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		t.Error(err)
	}
}

// Each fault must be found by each kind of client that can meet it, in the
// phase in which it happens.
func TestFaultsAreFound(t *testing.T) {
	for _, tt := range []struct {
		name   string
		server *server
		adjust func(*Config)
		kinds  []Kind
		phases []Phase // the first must occur, the others may
		any    bool    // …or another of them comes first
		text   string
	}{
		{
			name:   "idle kept connections closed",
			server: &server{idleLimit: 50 * time.Millisecond},
			adjust: func(c *Config) { c.KeptPause = 150 * time.Millisecond; c.HalfPause = 400 * time.Millisecond },
			kinds:  []Kind{Kept, Halves, Pipeline},
			phases: []Phase{Pause, ReadHead, Write}, // the latter when the close crosses a request
			text:   "EOF",
		},
		{
			name: "one answer in a thousand reset",
			server: &server{each: func(n int64, c *net.TCPConn) bool {
				if n%1000 == 500 {
					reset(c)
					return false
				}
				return true
			}},
			kinds:  []Kind{""},
			phases: []Phase{ReadHead, Write, Pause},
			text:   "reset",
		},
		{
			name: "wrong body",
			server: &server{body: func(n int64, path string) string {
				if n > 1 && n%7 == 0 {
					return "hello from elsewhere"
				}
				return "hello from " + path
			}},
			kinds:  []Kind{Fresh, Kept, Halves, Pipeline, Burst},
			phases: []Phase{ReadBody},
			text:   "wrong body",
		},
		{
			name: "answer cut short",
			server: &server{each: func(n int64, c *net.TCPConn) bool {
				if n > 1 && n%7 == 0 {
					_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhello")
					return false
				}
				return true
			}},
			kinds:  []Kind{Fresh, Kept, Halves, Pipeline, Burst},
			phases: []Phase{ReadBody, Write, ReadHead},
			text:   "after 5 bytes of the body",
		},
		{
			name:   "idle connections closed",
			server: &server{idleLimit: 50 * time.Millisecond},
			adjust: func(c *Config) { *c = Config{HTTP: c.HTTP, Idle: 200} },
			kinds:  []Kind{Idle},
			phases: []Phase{Pause, Connect, ReadHead}, // the latter while others are opened
			text:   "EOF",
		},
		{
			name: "idle connections lost from sight",
			server: &server{each: func(n int64, c *net.TCPConn) bool {
				if n > 1+200 {
					reset(c)
				}
				return n <= 1+200
			}},
			adjust: func(c *Config) { *c = Config{HTTP: c.HTTP, Idle: 200} },
			kinds:  []Kind{Idle},
			phases: []Phase{ReadHead},
			text:   "reset",
		},
		{
			name: "idle connections spoken to",
			server: &server{each: func(n int64, c *net.TCPConn) bool {
				if n == 101 {
					time.AfterFunc(300*time.Millisecond, func() { _, _ = io.WriteString(c, "?") })
				}
				return true
			}},
			adjust: func(c *Config) { *c = Config{HTTP: c.HTTP, Idle: 200} },
			kinds:  []Kind{Idle},
			phases: []Phase{Pause},
			text:   errUnasked.Error(),
		},
		{
			name:   "a body taken for requests",
			server: &server{forgets: true},
			adjust: func(c *Config) { c.Burst, c.Stream, c.HalfPause = 0, 0, 20*time.Millisecond },
			kinds:  []Kind{Halves},
			phases: []Phase{ReadBody, ReadHead, Write, Pause},
			any:    true, // where it is found depends on who is faster
		},
		{
			name: "one byte of an echo dropped",
			server: &server{echoes: func(total int64, b []byte) []byte {
				if total < 5_000 && total+int64(len(b)) >= 5_000 && len(b) > 1 {
					return append(b[:len(b)/2:len(b)/2], b[len(b)/2+1:]...)
				}
				return b
			}},
			kinds:  []Kind{Stream},
			phases: []Phase{ReadBody},
		},
		{
			name: "one bit of an echo turned",
			server: &server{echoes: func(total int64, b []byte) []byte {
				if total > 5_000 && len(b) > 0 {
					b[len(b)-1] ^= 1
				}
				return b
			}},
			kinds:  []Kind{Stream},
			phases: []Phase{ReadBody},
			text:   "want 0x",
		},
		{
			name: "the last of an echo dropped",
			server: &server{echoes: func(_ int64, b []byte) []byte {
				return b[:len(b)-min(1, len(b))]
			}},
			adjust: func(c *Config) { *c = Config{Echo: c.Echo, Stream: 8} },
			kinds:  []Kind{Stream},
			phases: []Phase{ReadBody, Write}, // a reset when it is found early
		},
		{
			name: "an echo that says more",
			server: &server{echoes: func(_ int64, b []byte) []byte {
				if len(b) == 0 {
					return []byte{1}
				}
				return b
			}},
			kinds:  []Kind{Stream},
			phases: []Phase{ReadBody},
			text:   "more than the",
		},
		{
			name: "no answer",
			server: &server{each: func(n int64, _ *net.TCPConn) bool {
				if n > 1 && n%50 == 0 {
					time.Sleep(400 * time.Millisecond)
				}
				return true
			}},
			adjust: func(c *Config) {
				*c = Config{HTTP: c.HTTP, Fresh: 4, Timeout: 200 * time.Millisecond}
			},
			kinds:  []Kind{Fresh},
			phases: []Phase{ReadHead, Connect, ReadBody}, // the others on a busy machine
			text:   "timeout",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := tt.server
			s.start(t)
			cfg := Defaults(s.http, s.echo)
			if tt.adjust != nil {
				tt.adjust(&cfg)
			}
			r := measure(t, 1200*time.Millisecond, cfg)
			for _, k := range tt.kinds {
				if n := r.Kind(k).Lost; n == 0 && k != "" {
					t.Errorf("%s found nothing", k)
				}
			}
			if r.Lost() == 0 {
				t.Fatal("nothing found")
			}
			found, first := false, false
			for _, l := range r.Losses {
				ok := false
				for _, p := range tt.phases {
					ok = ok || l.Phase == p
				}
				if !ok {
					t.Errorf("found in another phase: %v", l)
				}
				first = first || l.Phase == tt.phases[0]
				found = found || strings.Contains(l.Error, tt.text)
				if l.Mark == "" || l.Local == "" && l.Phase != Connect || l.Time.IsZero() {
					t.Errorf("a loss without its circumstances: %+v", l)
				}
			}
			if !first && !tt.any {
				t.Errorf("no loss in %s", tt.phases[0])
			}
			if !found {
				t.Errorf("no loss says %q", tt.text)
			}
		})
	}
}

// A download is wrong when a byte is, when one is missing, and when one is
// promised less.
func TestFaultsOfDownloadsAreFound(t *testing.T) {
	for _, tt := range []struct {
		name  string
		fault func(good string) string
		cut   bool
		phase Phase
		text  string
	}{
		{"one bit turned", func(s string) string { return s[:len(s)/2] + string(s[len(s)/2]^1) + s[len(s)/2+1:] }, false, ReadBody, "byte 4194304 of the file is"},
		{"one byte dropped", func(s string) string { return s[:len(s)/2] + s[len(s)/2+1:] }, false, ReadBody, "status 200 with 8388607 bytes"},
		{"one byte twice", func(s string) string { return s[:len(s)/2+1] + s[len(s)/2:len(s)-1] }, false, ReadBody, "byte 4194305 of the file is"},
		{"cut", func(s string) string { return s }, true, ReadBody, "of the file: "},
		{"never begun", func(string) string { return "" }, false, ReadBody, "status 200 with 0 bytes"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := new(server).start(t)
			cfg := Config{HTTP: s.http}
			withDownload(t, s, &cfg)
			good, _ := s.files.Load("/big")
			s.files.Store("/big", tt.fault(good.(string)))
			m, err := Start(t.Context(), cfg)
			if err != nil {
				t.Fatal(err)
			}
			if tt.cut {
				for received(m) == 0 {
					time.Sleep(5 * time.Millisecond)
				}
				s.conns.Range(func(c, _ any) bool { c.(net.Conn).Close(); return true })
			}
			time.Sleep(200 * time.Millisecond)
			r := m.Stop()
			t.Logf("\n%v", r)
			if len(r.Losses) == 0 {
				t.Fatal("nothing found")
			}
			if l := r.Losses[0]; l.Kind != Download || l.Phase != tt.phase || !strings.Contains(l.Error, tt.text) {
				t.Errorf("loss %v, want one in %s that says %q", l, tt.phase, tt.text)
			}
		})
	}
}

// received is what downloads of m have received so far, in bytes.
func received(m *Meter) uint64 {
	s, _ := m.tallies[Download].result()
	return s.Bytes
}

// A download that is read only slowly keeps the server waiting until Stop.
func TestDownloadSpansTheMeasurement(t *testing.T) {
	s := new(server).start(t)
	cfg := Config{HTTP: s.http}
	withDownload(t, s, &cfg)
	r := measure(t, time.Second, cfg)
	if got := r.Kind(Download); got.Lost > 0 || got.Requests != 1 || got.Bytes != 8<<20 || got.Max < 900*time.Millisecond {
		t.Errorf("%+v, want one whole download that took the whole second", got)
	}
}

// Answers to pipelined requests in the wrong order are whole and right, each
// by itself.
func TestPipelineOrder(t *testing.T) {
	var mu sync.Mutex
	last := "/"
	s := (&server{body: func(n int64, path string) string {
		mu.Lock()
		defer mu.Unlock()
		if n > 10 {
			path, last = last, path
		}
		return "hello from " + path
	}}).start(t)
	cfg := Config{HTTP: s.http, Pipeline: 1, Paths: []string{"/", "/b"}}
	if r := measure(t, 300*time.Millisecond, cfg); r.Kind(Pipeline).Lost == 0 {
		t.Error("wrong order not found")
	}
}

// politeServer ends every tenth connection by an answer with Connection: close.
func politeServer(t *testing.T) (address string) {
	t.Helper()
	var n atomic.Int64
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if n.Add(1)%10 == 0 {
			w.Header().Set("Connection", "close")
		}
		fmt.Fprintln(w, "hello")
	})}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	t.Cleanup(func() {
		srv.Close()
		<-served
	})
	return l.Addr().String()
}

// A polite end is none of the losses, and what was pipelined behind it is sent
// again.
func TestPoliteEndIsNoLoss(t *testing.T) {
	r := measure(t, 500*time.Millisecond, Config{HTTP: politeServer(t), Kept: 4, Halves: 4, Pipeline: 4, Idle: 50})
	if r.Lost() != 0 {
		t.Errorf("%d polite ends taken for losses", r.Lost())
	}
	for _, k := range []Kind{Kept, Pipeline, Idle} {
		if r.Kind(k).Ended == 0 {
			t.Errorf("%s saw no polite end", k)
		}
	}
	if r.Kind(Pipeline).Unanswered == 0 {
		t.Error("nothing was left unanswered")
	}
}

// To a strict measure it is one.
func TestPoliteEndIsALossWhenStrict(t *testing.T) {
	r := measure(t, 500*time.Millisecond, Config{
		HTTP: politeServer(t), Strict: true,
		Fresh: 4, Kept: 4, Halves: 8, Pipeline: 4, Burst: 50, Idle: 50, HalfPause: 10 * time.Millisecond,
	})
	for _, k := range r.Kinds {
		if k.Lost == 0 || k.Ended > 0 {
			t.Errorf("%s: %d lost, %d ended; want the ends among the losses", k.Kind, k.Lost, k.Ended)
		}
	}
	for _, l := range r.Losses {
		if l.Phase != Ending || l.Error != errEnded.Error() {
			t.Errorf("lost otherwise: %v", l)
		}
	}
}

// A full accept queue drops the last step of handshakes; clients send their
// SYN again and are late, not lost.
func TestSlowConnectsAreNoLosses(t *testing.T) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(
		unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}),
		unix.Listen(fd, 30),
	); err != nil {
		t.Fatal(err)
	}
	sa, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	addr := fmt.Sprintf("127.0.0.1:%d", sa.(*unix.SockaddrInet4).Port)

	serve := make(chan struct{})
	var done sync.WaitGroup
	answer := func(c int) {
		var buf [1024]byte
		_, _ = unix.Read(c, buf[:])
		_, _ = unix.Write(c, []byte("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"))
		_ = unix.Close(c)
	}
	done.Go(func() {
		for n := 0; ; n++ {
			if n == 1 { // the first is what Start asks
				<-serve
			}
			c, _, err := unix.Accept4(fd, unix.SOCK_CLOEXEC)
			if err != nil {
				return
			}
			done.Go(func() { answer(c) })
		}
	})
	m, err := Start(context.Background(), Config{HTTP: addr, Burst: 60, Timeout: 20 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(200 * time.Millisecond)
	close(serve)
	time.Sleep(1200 * time.Millisecond)
	r := m.Stop()
	t.Logf("\n%v", r)
	if r.Lost() != 0 {
		t.Errorf("%d late connects taken for losses", r.Lost())
	}
	if r.Kind(Burst).SlowConnects == 0 || r.SlowestConnect() < slowConnect || r.SynRetrans == 0 {
		t.Errorf("slow connects not seen: %+v, %d SYNs again", r.Kind(Burst), r.SynRetrans)
	}
	_ = unix.Shutdown(fd, unix.SHUT_RDWR) // wakes accept
	done.Wait()
	_ = unix.Close(fd)
}

func TestStartRefuses(t *testing.T) {
	for _, cfg := range []Config{
		{HTTP: "127.0.0.1:1", Kept: 1},
		{HTTP: "127.0.0.1:1", Kept: maxClients + 1},
		{HTTP: "127.0.0.1:1", Idle: maxDescriptors + 1},
		{HTTP: politeServer(t), Download: 1, DownloadPath: "/", DownloadFile: "/no/such/file"},
		{HTTP: "127.0.0.1:1", Fresh: 1, FreshRate: maxRate + 1},
		{HTTP: "127.0.0.1:1", Burst: 400, BurstPause: time.Millisecond},
	} {
		if m, err := Start(context.Background(), cfg); err == nil {
			m.Stop()
			t.Errorf("started with %+v", cfg)
		} else {
			t.Log(err)
		}
	}
}
