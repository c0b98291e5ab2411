package serving

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"reuseportd/internal/control"
	"reuseportd/test/harness"
	"reuseportd/test/kit"
)

// echoServer returns an echo server that runs with the test.
func echoServer(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.Copy(c, c)
			}()
		}
	}()
	return l.Addr().String()
}

// passing is a configuration with a tcp listener, "db", in front of servers.
func passing(t *testing.T, keys string, servers ...string) harness.Config {
	t.Helper()
	return harness.Default(t).With(fmt.Sprintf("upstreams: [{name: db, %s, servers: [{address: %s}]}]",
		keys, strings.Join(servers, "}, {address: "))).
		WithListeners(harness.Listener{Name: "db", Address: harness.Local(t), Service: "tcp: {upstream: db}"})
}

// once makes a connection, has text sent back and ends it.
func once(t *testing.T, c harness.Config, text string) {
	t.Helper()
	conn := kit.Dial(t, c.Address("db"))
	conn.Echo(text)
	conn.CloseWrite()
	conn.WantEOF()
}

func serverAt(t *testing.T, st *control.Status, address string) control.Server {
	t.Helper()
	for _, u := range st.Upstreams {
		for _, s := range u.Servers {
			if s.Address == address {
				return s
			}
		}
	}
	t.Fatalf("the status has no server %s: %+v", address, st.Upstreams)
	return control.Server{}
}

// What is known of a server outlives whoever has found it out: one that was ejected is
// so for the workers and masters after it, however they come into their own, and what
// was counted stays.
func TestEjectedServerStaysEjected(t *testing.T) {
	well, dead := echoServer(t), harness.Local(t)
	c := passing(t, "max_failures: 1, cool_down: 1h", well, dead)
	s := harness.Start(t, c)
	conn := kit.Dial(t, c.Address("db"))
	sessions := uint64(0)
	for n := 0; ; n++ {
		once(t, c, "whoever it was")
		if sessions++; serverAt(t, s.Status(), dead).State == "ejected" {
			break
		}
		if n > 20 {
			t.Fatalf("not ejected: %+v", s.Status().Upstreams)
		}
	}
	s.WaitLog("connection refused")
	was := serverAt(t, s.Status(), dead)
	if was.Ejections != 1 || was.Failures["connection refused"] == 0 || was.Until == nil || was.Since == nil {
		t.Errorf("ejected: %+v", was)
	}
	for _, step := range []struct {
		name string
		do   func()
	}{
		{"reload", func() { kit.Replace(t, s, "reload") }},
		{"upgrade", func() { kit.Replace(t, s, "upgrade") }},
		{"adoption", func() {
			s.Kill9Master()
			kit.Adopts(t, s)
		}},
	} {
		step.do()
		conn.Echo("still here")
		for range 4 {
			once(t, c, "at the other one")
			sessions++
		}
		st := s.Status()
		is := serverAt(t, st, dead)
		if is.State != "ejected" || is.Ejections != was.Ejections || is.Failures["connection refused"] != was.Failures["connection refused"] {
			t.Errorf("after the %s: %+v, was %+v", step.name, is, was)
		}
		if is := serverAt(t, st, well); is.State != "up" || is.Sessions < sessions {
			t.Errorf("after the %s: %+v, want at least %d sessions", step.name, is, sessions)
		}
	}
	conn.CloseWrite()
	conn.WantEOF()
	s.WaitStatus("nothing to be in use", func(st *control.Status) bool { return serverAt(t, st, well).InUse == 0 })
	if out := s.CLI("status").Stdout; !strings.Contains(out, "connection refused") {
		t.Errorf("status:\n%s", out)
	}
}

// What a worker that dies had in use is in use no more.
func TestDeadWorkerUsesNothing(t *testing.T) {
	well := echoServer(t)
	c := passing(t, "retries: 0", well).WithWorkers(1)
	s := harness.Start(t, c)
	for range 5 {
		kit.Dial(t, c.Address("db")).Echo("hello")
	}
	if used := serverAt(t, s.Status(), well).InUse; used != 5 {
		t.Errorf("%d in use, want 5", used)
	}
	s.KillWorkers(s.Workers()...)
	s.WaitStatus("nothing to be in use", func(st *control.Status) bool { return serverAt(t, st, well).InUse == 0 })
	kit.Dial(t, c.Address("db")).Echo("hello again")
}

// The connections that are kept to a server outlive their workers too: it sees one, however
// many generations have used it.
func TestKeptConnectionsToServersAreHandedOver(t *testing.T) {
	var made atomic.Int32
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "from behind\n")
	}))
	server.Config.ConnState = func(_ net.Conn, st http.ConnState) {
		if st == http.StateNew {
			made.Add(1)
		}
	}
	server.Start()
	t.Cleanup(server.Close)
	c := harness.Default(t).WithWorkers(1).
		With(fmt.Sprintf("upstreams: [{name: app, servers: [{address: %s}]}]", server.Listener.Addr())).
		WithListeners(harness.Listener{Name: "web", Address: harness.Local(t), Service: "http: {routes: [{proxy: {upstream: app}}]}"})
	s := harness.Start(t, c)
	conn := kit.Dial(t, c.Address("web"))
	for _, change := range []string{"reload", "upgrade", "reload"} {
		conn.Send(kit.Get)
		conn.WantKept("from behind\n")
		kit.Replace(t, s, change)
	}
	conn.Send(kit.Get)
	conn.WantKept("from behind\n")
	st := s.Status()
	if n := made.Load(); n != 1 || st.Totals.UpstreamKept != 3 {
		t.Errorf("the server saw %d connections, %d were taken over; want 1 and 3", n, st.Totals.UpstreamKept)
	}
	if is := serverAt(t, st, server.Listener.Addr().String()); is.Sessions != 4 || is.Connects != 1 || is.InUse != 0 {
		t.Errorf("%+v", is)
	}
}

// A name that nobody knows keeps no service from starting, and is told.
func TestUnknownNameOfServer(t *testing.T) {
	c := passing(t, "retries: 0", "nobody.invalid:80")
	c = c.WithListeners(c.Listeners[0], harness.Listener{
		Name: "web", Address: harness.Local(t), Service: "http: {routes: [{proxy: {upstream: db}}]}",
	})
	s := harness.Start(t, c)
	if conn, err := net.DialTimeout("tcp", c.Address("db"), harness.Within); err == nil {
		kit.NewClient(t, conn).WantEnd()
		_ = conn.Close()
	} else if !errors.Is(err, syscall.ECONNRESET) { // it may be that fast
		t.Error(err)
	}
	conn := kit.Dial(t, c.Address("web"))
	conn.Send(kit.Get)
	if resp, _ := conn.Answer(); resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("status %s", resp.Status)
	}
	st := s.WaitStatus("a failed lookup", func(st *control.Status) bool { return st.Upstreams[0].DNSFailures > 0 })
	if up := st.Upstreams[0]; up.TurnedAway != 2 || len(up.Servers) != 1 || up.Servers[0].State != "unresolved" || up.Servers[0].Name != "nobody.invalid:80" {
		t.Errorf("%+v", up)
	}
	s.WaitLog("no server is up")
}
