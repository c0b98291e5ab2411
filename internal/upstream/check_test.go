package upstream

import (
	"bufio"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"reuseportd/internal/config"
)

// peer is a real server whose every connection do has.
func peer(t *testing.T, network, address string, do func(net.Conn)) net.Listener {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	var done sync.WaitGroup
	done.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			done.Go(func() {
				defer c.Close()
				do(c)
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		done.Wait()
	})
	return l
}

// checkedApp is an upstream of one server with checks in quick succession.
func checkedApp(l net.Listener) config.Upstream {
	u := app(config.BalanceRoundRobin)
	u.Servers = []config.Server{{Network: l.Addr().Network(), Address: l.Addr().String(), Weight: 1}}
	u.Check = &config.Check{
		Interval: 10 * time.Millisecond, Timeout: 2 * time.Second, Rise: 2, Fall: 3, StatusFrom: 200, StatusTo: 399,
	}
	return u
}

func TestConnectChecks(t *testing.T) {
	for _, network := range []string{"tcp4", "tcp6", "unix"} {
		t.Run(network, func(t *testing.T) {
			address := map[string]string{
				"tcp4": "127.0.0.1:0", "tcp6": "[::1]:0", "unix": filepath.Join(t.TempDir(), "s"),
			}[network]
			l := peer(t, network, address, func(net.Conn) {})
			u := checkedApp(l)
			address = l.Addr().String()
			_ = l.Close()
			told := newEvents()
			run(t, newSet(t, newBoard(t), told.tell, u))
			why := "connection refused"
			if network == "unix" {
				why = "no such socket"
			}
			told.next(t, "is down: 3 checks in a row failed ("+why+")")
			peer(t, network, address, func(net.Conn) {})
			told.next(t, "is up: 2 checks in a row succeeded")
		})
	}
}

func TestRequestChecks(t *testing.T) {
	for _, test := range []struct{ name, answer, why string }{
		{"bad status", "HTTP/1.1 503 Service Unavailable\r\n\r\n", "it answered 503"},
		{"no HTTP", "SSH-2.0-OpenSSH_9.2\r\n", "malformed answer"},
		{"a line without end", strings.Repeat("x", 20000), "malformed answer"},
		{"interim answers without end", strings.Repeat("HTTP/1.1 102 Processing\r\n\r\n", 1000), "closed early"},
		{"half a line", "HTTP/1.1 2", "closed early"},
		{"nothing", "", "closed early"},
		{"hangs", "hang", "no answer in time"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var well atomic.Bool
			var requests sync.Map
			l := peer(t, "tcp", "127.0.0.1:0", func(c net.Conn) {
				r := bufio.NewReader(c)
				var request strings.Builder
				for !strings.HasSuffix(request.String(), "\r\n\r\n") {
					line, err := r.ReadString('\n')
					if err != nil {
						return
					}
					request.WriteString(line)
				}
				requests.Store(request.String(), true)
				switch {
				case well.Load():
					fmt.Fprint(c, "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
				case test.answer == "hang":
					_, _ = r.ReadByte()
				default:
					fmt.Fprint(c, test.answer)
				}
			})
			u := checkedApp(l)
			u.Check.Path = "/health?x=1"
			if test.answer == "hang" {
				u.Check.Timeout = 10 * time.Millisecond
			}
			told := newEvents()
			run(t, newSet(t, newBoard(t), told.tell, u))
			told.next(t, "is down: 3 checks in a row failed ("+test.why+")")
			if test.answer == "hang" {
				return // it would be as slow when it is well
			}
			well.Store(true)
			told.next(t, "is up")
			want := "GET /health?x=1 HTTP/1.1\r\nHost: " + l.Addr().String() +
				"\r\nUser-Agent: reuseportd-check\r\nAccept: */*\r\nConnection: close\r\n\r\n"
			requests.Range(func(got, _ any) bool {
				if got != want {
					t.Errorf("request %q, want %q", got, want)
				}
				return true
			})
		})
	}
}

// Servers that expect a PROXY header get one from checks, too.
func TestChecksSendTheProxyHeader(t *testing.T) {
	for version, want := range map[int]string{
		1: "PROXY UNKNOWN\r\n",
		2: "\x0d\x0a\x0d\x0a\x00\x0d\x0a\x51\x55\x49\x54\x0a\x20\x00\x00\x00",
	} {
		got := make(chan string, 1000)
		l := peer(t, "tcp", "127.0.0.1:0", func(c net.Conn) {
			b := make([]byte, 100)
			n, _ := c.Read(b)
			got <- string(b[:n])
		})
		u := checkedApp(l)
		u.SendProxy = version
		stop := run(t, newSet(t, newBoard(t), nil, u))
		if g := <-got; g != want {
			t.Errorf("version %d: %q", version, g)
		}
		stop()
	}
}

// All workers together check a server once each interval; if one is stopped or dies after
// it has taken one, the others make the next.
func TestOneCheckEachInterval(t *testing.T) {
	u := app(config.BalanceRoundRobin, 1)
	u.Check = &config.Check{Interval: 10 * time.Second, Timeout: time.Second, Rise: 1, Fall: 1}
	b := newBoard(t)
	var sets []*Set
	for range 8 {
		sets = append(sets, newSet(t, reopened(t, b), nil, u))
	}
	now := second
	var last int64
	for round := range 20 {
		var made atomic.Int64
		var next atomic.Int64
		var all sync.WaitGroup
		for _, s := range sets {
			all.Go(func() { next.Store(s.checkDue(now, func(*Server) { made.Add(1) })) })
		}
		all.Wait()
		if made.Load() != 1 {
			t.Fatalf("round %d: %d checks", round, made.Load())
		}
		if d := next.Load() - now; d > 10*second || d < 5*second || round > 0 && d != 10*second {
			t.Fatalf("round %d: the next in %v", round, time.Duration(d))
		}
		if last = now; sets[3].checkDue(now+1, func(*Server) { t.Error("too early") }) != next.Load() {
			t.Error("another time")
		}
		now = next.Load()
	}
	// A shorter interval counts at once.
	u.Check = &config.Check{Interval: time.Second, Timeout: time.Second, Rise: 1, Fall: 1}
	made := 0
	next := newSet(t, b, nil, u).checkDue(last+2, func(*Server) { made++ })
	if made != 1 || next != last+2+second {
		t.Errorf("%d checks, the next %v later", made, time.Duration(next-last))
	}
}

func FuzzReadStatus(f *testing.F) {
	for _, s := range []string{"HTTP/1.1 200 OK\r\n", "HTTP/1.1 100 \r\n\r\nHTTP/1.0 204\n", "HTTP/2 200\r\n", "HTTP/1.1 99 x\r\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		status, err := readStatus(strings.NewReader(s))
		if err == nil && (status < 101 || status > 999 || !strings.Contains(s, "HTTP/1.")) {
			t.Errorf("%d", status)
		}
	})
}
