package services

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"reuseportd/internal/control"
	"reuseportd/test/harness"
)

// tcpFault is a server that is ill, and how a client's connection ends.
type tcpFault struct {
	name   string
	server func(t *testing.T) string
	keys   string // of the upstream
	tcp    string // of the listener
	want   string // what the client gets before the end
	reset  bool   // the end is one that no server means
	fails  bool   // it is counted as a failure of the server, and logged
}

func tcpFaults() []tcpFault {
	text := strings.Repeat("x", 100<<10)
	return []tcpFault{
		{name: "refused", server: func(t *testing.T) string { return Nobody(t) }, reset: true, fails: true},
		{name: "black-hole", server: func(t *testing.T) string { return BlackHole(t) }, keys: "connect_timeout: 300ms", reset: true, fails: true},
		{name: "unknown-name", server: func(*testing.T) string { return "nosuch.invalid:80" }, reset: true},
		{name: "closes", server: ill(says(""))},
		{name: "says-and-closes", server: ill(says(text)), want: text},
		{name: "resets", server: ill(resets("")), reset: true, fails: true},
		{name: "says-and-resets", server: ill(resets("hello")), want: "hello", reset: true, fails: true},
		{name: "idle", server: ill(then("hello")), tcp: "idle_timeout: 300ms", want: "hello"},
		{name: "total", server: ill(then("hello")), tcp: "total_timeout: 300ms", want: "hello", reset: true},
	}
}

// hear is all that a client is told which says nothing, and how that ends. A reset may
// come as early as in connect(2).
func hear(t *testing.T, address string) (string, error) {
	t.Helper()
	conn, err := tryDial(t, address)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	text, err := io.ReadAll(conn)
	return string(text), err
}

// Whatever a server does, its client's connection ends as docs say, and nothing of it
// stays.
func TestTCPFaults(t *testing.T) {
	faults := tcpFaults()
	ups := "upstreams:"
	c := harness.Config{Workers: 2}
	servers := make(map[string]string)
	for _, f := range faults {
		servers[f.name] = f.server(t)
		keys := f.keys
		if keys == "" {
			keys = "connect_timeout: 5s"
		}
		ups += fmt.Sprintf("\n  - {name: %s, servers: [{address: %q}], max_failures: 0, %s}", f.name, servers[f.name], keys)
		c.Listeners = append(c.Listeners, harness.Listener{
			Name: f.name, Address: harness.Local(t), Service: fmt.Sprintf("tcp: {upstream: %s, %s}", f.name, f.tcp),
		})
	}
	s := harness.Start(t, c.With("watch: false", "start_timeout: 40s", ups))
	for _, f := range faults {
		t.Run(f.name, func(t *testing.T) {
			for range 3 {
				got, err := hear(t, c.Address(f.name))
				if !f.reset && got != f.want || !strings.HasPrefix(f.want, got) {
					t.Errorf("got %d bytes %.20q, want %.20q", len(got), got, f.want)
				}
				switch ne := net.Error(nil); {
				case errors.As(err, &ne) && ne.Timeout():
					t.Fatal("the connection doesn't end")
				case f.reset != errors.Is(err, syscall.ECONNRESET):
					t.Errorf("the end is %v, want a reset: %t", err, f.reset)
				}
			}
			settled(t, s, f.name)
			up := upstreamOf(t, s.Status(), f.name)
			var failures uint64
			for _, server := range up.Servers {
				for _, n := range server.Failures {
					failures += n
				}
			}
			if f.fails != (failures > 0) {
				t.Errorf("counted as failures: %d, want some: %t", failures, f.fails)
			}
			if f.name == "unknown-name" && (up.TurnedAway != 3 || up.DNSFailures == 0) {
				t.Errorf("turned away %d, DNS failures %d; want 3 and some", up.TurnedAway, up.DNSFailures)
			}
			if f.fails {
				wantLogged(t, s, f.name, servers[f.name])
			}
		})
	}
}

// A failure that happens again and again is told once a second by each loop, with the
// number of those that were not.
func TestFailuresAreToldSparingly(t *testing.T) {
	c := inFrontOf(t, Nobody(t), "tcp: {upstream: behind}")
	c.Top[len(c.Top)-1] += "\n    max_failures: 0"
	s := harness.Start(t, c)
	began, tried := time.Now(), 0
	s.Wait("suppressed failures to be told", func() bool {
		for range 10 {
			tried++
			if _, err := hear(t, c.Address("front")); !errors.Is(err, syscall.ECONNRESET) {
				t.Fatalf("error %v", err)
			}
		}
		return strings.Contains(s.Log(), `"suppressed":`)
	})
	told := strings.Count(s.Log(), `"reason":"connection refused"`)
	if most := 2 * (2 + int(time.Since(began)/time.Second)); told > most || told >= tried {
		t.Errorf("%d failures were told %d times, want at most %d", tried, told, most)
	}
	if f := upstreamOf(t, s.Status(), "behind").Servers[0].Failures; f["connection refused"] != uint64(tried) {
		t.Errorf("failures %v, want %d connections refused", f, tried)
	}
}

// Each end may say that it has said all, and goes on hearing the other.
func TestTCPHalfCloses(t *testing.T) {
	text := strings.Repeat("0123456789abcdef", 20_000)
	afterAll := StartIll(t, func(c *net.TCPConn) { // answers when it has heard all
		got, _ := io.ReadAll(c)
		_, _ = c.Write(got)
	})
	heard := make(chan string, 10)
	first := StartIll(t, func(c *net.TCPConn) { // says all, and listens on
		_, _ = c.Write([]byte(text))
		_ = c.CloseWrite()
		got, err := io.ReadAll(c)
		heard <- fmt.Sprint(string(got), err)
	})
	for _, tt := range []struct {
		name   string
		server *Ill
	}{{"client first", afterAll}, {"server first", first}} {
		t.Run(tt.name, func(t *testing.T) {
			c := inFrontOf(t, tt.server.Address(), "tcp: {upstream: behind}")
			s := harness.Start(t, c)
			for _, change := range []string{"", "reload", "upgrade"} {
				conn := dial(t, c.Address("front"))
				if tt.server == afterAll {
					_, err := io.WriteString(conn, text)
					must(t, err)
					if change != "" {
						s.ChangeOver(change)
					}
					must(t, conn.CloseWrite())
					if got, err := io.ReadAll(conn); err != nil || string(got) != text {
						t.Errorf("got %d bytes, error %v", len(got), err)
					}
					continue
				}
				if got, err := io.ReadAll(conn); err != nil || string(got) != text {
					t.Errorf("got %d bytes, error %v", len(got), err)
				}
				if change != "" {
					s.ChangeOver(change)
				}
				_, err := io.WriteString(conn, text)
				must(t, err)
				must(t, conn.CloseWrite())
				if got := <-heard; got != text+"<nil>" {
					t.Errorf("the server got %d bytes, %.20s", len(got), got[len(text):])
				}
			}
			settled(t, s, "behind")
		})
	}
}

// Ends that flood while the other doesn't read cost no memory, travel, and end when one
// of them does.
func TestTCPFloods(t *testing.T) {
	for _, tt := range []struct {
		name  string
		treat func(*net.TCPConn)
	}{{"both ways", floods("hello", "x")}, {"client", then("hello")}} {
		t.Run(tt.name, func(t *testing.T) {
			server := StartIll(t, tt.treat)
			c := inFrontOf(t, server.Address(), "tcp: {upstream: behind}")
			s := harness.Start(t, c)
			before := memory(s)
			const each = 10
			var conns []*net.TCPConn
			for range each {
				conns = append(conns, dial(t, c.Address("front")))
			}
			fill(t, conns)
			waitStill(s)
			wantSlim(t, s, before)
			for i := range 2 {
				if r := s.ChangeOver(changeOf(i)); r.HandedOver != each {
					t.Errorf("receipt %+v, want %d handed over", r, each)
				}
			}
			wantSlim(t, s, before)
			for _, conn := range conns {
				must(t, conn.SetLinger(0)) // it has unread bytes, so this is what a close is anyway
				conn.Close()
			}
			harness.Wait(t, "the server's connections to end", func() bool { return server.Open.Load() == 0 })
			settled(t, s, "behind")
		})
	}
}

// A server at a Unix socket that says a word and closes is heard, and is well.
func TestTCPUnixServer(t *testing.T) {
	path := filepath.Join(harness.Dir(t), "socket")
	l, err := net.Listen("unix", path)
	must(t, err)
	must(t, os.Chmod(path, 0o666)) // workers are another user
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, "hello")
			c.Close()
		}
	})
	defer serving.Wait()
	defer l.Close()
	must(t, os.Chmod(filepath.Dir(path), 0o755))
	c := inFrontOf(t, "unix:"+path, "tcp: {upstream: behind}")
	s := harness.Start(t, c)
	for range 100 {
		if got, err := hear(t, c.Address("front")); err != nil || got != "hello" {
			t.Errorf("got %q, error %v", got, err)
		}
	}
	if failures := upstreamOf(t, s.Status(), "behind").Servers[0].Failures; len(failures) > 0 {
		t.Errorf("failures %v", failures)
	}
	settled(t, s, "behind")
}

// With all servers ejected a connection is closed at once.
func TestTCPAllDown(t *testing.T) {
	text := fmt.Sprintf("upstreams: [{name: behind, connect_timeout: 500ms, max_failures: 1, cool_down: 1h, servers: [{address: %q}]}]", BlackHole(t))
	c := harness.Config{Workers: 2, Top: []string{"watch: false", text}}
	c = c.WithListeners(harness.Listener{Name: "front", Address: harness.Local(t), Service: "tcp: {upstream: behind}"})
	s := harness.Start(t, c)
	for range 11 {
		if got, err := hear(t, c.Address("front")); len(got) > 0 || !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("got %q, error %v, want a reset", got, err)
		}
	}
	settled(t, s, "behind")
	if u := upstreamOf(t, s.Status(), "behind"); u.TurnedAway != 10 {
		t.Errorf("turned away %d, want 10", u.TurnedAway)
	}
}

// What a worker that is killed had in use is nobody's any more: a server's bound isn't
// used up by the dead.
func TestKilledWorkerLeavesNoUse(t *testing.T) {
	const bound = 6
	server := StartIll(t, func(c *net.TCPConn) { _, _ = io.Copy(c, c) })
	text := fmt.Sprintf("upstreams: [{name: behind, servers: [{address: %q, max_connections: %d}]}]", server.Address(), bound)
	c := harness.Config{Workers: 2, Top: []string{"watch: false", text}}
	c = c.WithListeners(harness.Listener{Name: "front", Address: harness.Local(t), Service: "tcp: {upstream: behind}"})
	s := harness.Start(t, c)
	for _, change := range []string{"", "reload", "upgrade"} {
		if change != "" {
			s.ChangeOver(change)
		}
		fillUp(t, c.Address("front"), bound)
		s.WaitStatus("all to be in use", func(st *control.Status) bool {
			return upstreamOf(t, st, "behind").Servers[0].InUse == bound
		})
		old := s.Workers()
		s.KillWorkers(old...)
		s.WaitStatus("other workers to serve", func(st *control.Status) bool {
			g := harness.Serving(st)
			return g != nil && g.Workers[0].PID != old[0] && g.Workers[1].PID != old[1]
		})
		settled(t, s, "behind")
	}
	fillUp(t, c.Address("front"), bound)
}

// fillUp has so many connections served at the same time, and none more. They last
// until the test ends.
func fillUp(t *testing.T, address string, bound int) {
	t.Helper()
	for i := range bound + 3 {
		conn, err := tryDial(t, address)
		if err == nil {
			_, err = conn.Write([]byte("x"))
		}
		if err == nil {
			_, err = conn.Read(make([]byte, 1))
		}
		if served := err == nil; served != (i < bound) {
			t.Errorf("connection %d is served: %t (%v); the bound is %d", i+1, served, err, bound)
		}
	}
}

// A server that was ejected gets nothing from the next generations, well as it may be
// by now, until its time is over.
func TestEjectedStaysEjected(t *testing.T) {
	dead := Nobody(t)
	well := StartIll(t, says("hello"))
	text := fmt.Sprintf("upstreams: [{name: behind, max_failures: 1, cool_down: 1h, servers: [{address: %q}, {address: %q}]}]", dead, well.Address())
	c := harness.Config{Workers: 2, Top: []string{"watch: false", text}}
	c = c.WithListeners(harness.Listener{Name: "front", Address: harness.Local(t), Service: "tcp: {upstream: behind}"})
	s := harness.Start(t, c)
	ask := func(n int) {
		t.Helper()
		for range n {
			if got, err := hear(t, c.Address("front")); got != "hello" || err != nil {
				t.Errorf("got %q, error %v", got, err)
			}
		}
	}
	ask(10)
	ejected := func() *time.Time {
		t.Helper()
		server := upstreamOf(t, s.Status(), "behind").Servers[0]
		if server.Address != dead || server.State != "ejected" || server.Ejections != 1 {
			t.Fatalf("server %+v, want %s to have been ejected once", server, dead)
		}
		return server.Until
	}
	until := ejected()
	risen := StartIllAt(t, dead, says("hello"))
	for i := range 4 {
		s.ChangeOver(changeOf(i))
		ask(10)
		if now := ejected(); now == nil || until == nil || now.Sub(*until).Abs() > time.Second {
			t.Errorf("ejected until %v after change %d, was until %v", now, i+1, until)
		}
	}
	if n := risen.Accepted.Load(); n > 0 {
		t.Errorf("the ejected server has got %d connections", n)
	}
}
