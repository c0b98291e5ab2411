package upstream

import (
	"context"
	"sync"
	"testing"
	"time"

	"reuseportd/internal/config"
)

// run runs a set until the test ends.
func run(t *testing.T, s *Set) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() { s.Run(ctx) })
	stop = sync.OnceFunc(func() {
		cancel()
		done.Wait()
	})
	t.Cleanup(stop)
	return stop
}

const (
	noError   = 0
	serverBad = 2
	noName    = 3
)

func named(address string, more ...config.Server) config.Upstream {
	u := app(config.BalanceRoundRobin)
	u.ResolveEvery = 5 * time.Millisecond
	u.Servers = append([]config.Server{{Network: "tcp", Address: address, Named: true, Weight: 1, MaxConnections: 9}}, more...)
	return u
}

func resolved(t *testing.T, s *Set) {
	t.Helper()
	select {
	case <-s.Resolved():
	case <-time.After(20 * time.Second):
		t.Fatal("not resolved")
	}
}

// The life of a name: none, an address, others, failures of two kinds, an answer again.
func TestNames(t *testing.T) {
	dns := newNameServer(t)
	dns.answer(noName)
	told := newEvents()
	b := newBoard(t)
	s := newSet(t, b, told.tell, named("app.test:8080"))
	s.resolver = dns.resolver()
	c := newChooserOf(t, s, 0)
	run(t, s)
	resolved(t, s)
	told.next(t, "server app.test:8080 of upstream app is unresolved: its address can't be looked up: no such name, or no address of it")
	if got, _ := pick(c, 1, 0, nil); got != AllDown.String() {
		t.Error(got)
	}
	if got := b.Snapshot("app"); len(got) != 1 || got[0] != (ServerState{Name: "app.test:8080", State: Unresolved}) {
		t.Errorf("%+v", got)
	}

	dns.answer(noError, "10.0.0.3", "10.0.0.1", "::1")
	told.next(t, "server app.test:8080 of upstream app is up: its address is 10.0.0.1:8080, 10.0.0.3:8080, [::1]:8080")
	one, why := c.Pick(1, 0, nil)
	if why != Chosen || one.Name() != "10.0.0.1:8080" || one.Host() != "app.test:8080" || one.Address().String() != "10.0.0.1:8080" {
		t.Fatalf("%+v", one)
	}
	got := b.Snapshot("app")
	if len(got) != 3 || got[2].Address != "[::1]:8080" || got[2].Name != "app.test:8080" || got[2].MaxConnections != 9 {
		t.Errorf("%+v", got)
	}

	dns.answer(noError, "10.0.0.7")
	told.next(t, "server app.test:8080 of upstream app: its address is 10.0.0.7:8080")
	if s, _ := c.Pick(1, 0, nil); s.Name() != "10.0.0.7:8080" || c.Find("10.0.0.1:8080") != nil {
		t.Error(s.Name())
	}
	c.Done(one) // of a server that is gone

	failures := b.Upstream("app").DNSFailures
	dns.answer(serverBad)
	told.next(t, "server app.test:8080 of upstream app: its address can't be looked up: server misbehaving; the one of before goes on")
	dns.answer(noName)
	if s, _ := c.Pick(1, 0, nil); s == nil || s.Name() != "10.0.0.7:8080" {
		t.Errorf("%v", s)
	}

	// Those of before are the same servers.
	dns.answer(noError, "10.0.0.1")
	told.next(t, "its address is 10.0.0.1:8080")
	if s, _ := c.Pick(1, 0, nil); s != one {
		t.Error("another server for the same address")
	}
	if n := b.Upstream("app").DNSFailures; n <= failures {
		t.Errorf("%d failures", n)
	}
}

// A failure that goes on is told once, and by one of the workers.
func TestFailuresAreToldOnce(t *testing.T) {
	dns := newNameServer(t)
	dns.answer(noName)
	told := newEvents()
	b := newBoard(t)
	for _, b := range []*Board{b, reopened(t, b)} {
		s := newSet(t, b, told.tell, named("app.test:8080"))
		s.resolver = dns.resolver()
		stop := run(t, s)
		resolved(t, s)
		defer stop()
	}
	for b.Upstream("app").DNSFailures < 3 {
		time.Sleep(time.Millisecond) // until it is counted
	}
	told.want(t, "server app.test:8080 of upstream app is unresolved: its address can't be looked up: no such name, or no address of it")
}

// A worker that starts while names can't be looked up has what others have.
func TestNamesThatOthersKnow(t *testing.T) {
	dns := newNameServer(t)
	dns.answer(noError, "10.0.0.1", "fd00::2")
	b := newBoard(t)
	first := newSet(t, b, nil, named("app.test:8080"))
	first.resolver = dns.resolver()
	stop := run(t, first)
	resolved(t, first)
	stop()
	dns.answer(serverBad)
	told := newEvents()
	next := newSet(t, b, told.tell, named("app.test:8080"))
	next.resolver = dns.resolver()
	c := newChooserOf(t, next, 0)
	if c.Find("10.0.0.1:8080") == nil || c.Find("[fd00::2]:8080") == nil {
		t.Error("they are not there")
	}
	run(t, next)
	resolved(t, next)
	told.next(t, "can't be looked up: server misbehaving; the one of before goes on")
	if s, why := c.Pick(1, 0, nil); s == nil {
		t.Error(why)
	}
}

// An address that a name gives, and another server or name has as well, is one server.
func TestSameAddressTwice(t *testing.T) {
	dns := newNameServer(t)
	dns.answer(noError, "10.0.0.1", "10.0.0.2", "10.0.0.2")
	u := named("app.test:80",
		config.Server{Network: "tcp", Address: "10.0.0.1:80", Weight: 5},
		config.Server{Network: "tcp", Address: "b.test:80", Named: true, Weight: 1, Backup: true},
		config.Server{Network: "unix", Address: "/run/app.sock", Weight: 1},
		config.Server{Network: "tcp", Address: "[fe80::1%lo]:80", Weight: 1},
		config.Server{Network: "tcp", Address: "[fe80::1%none9]:80", Weight: 1})
	b := newBoard(t)
	told := newEvents()
	s := newSet(t, b, told.tell, u)
	s.resolver = dns.resolver()
	run(t, s)
	resolved(t, s)
	told.next(t, "server [fe80::1%none9]:80 of upstream app is unresolved: its address can't be looked up: interface none9")
	c := newChooserOf(t, s, 0)
	var got []string
	for _, s := range c.list.servers {
		got = append(got, s.Name())
	}
	want := []string{"10.0.0.1:80", "10.0.0.2:80", "unix:/run/app.sock", "[fe80::1%lo]:80"}
	if len(got) != len(want) {
		t.Fatalf("%v, want %v", got, want)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("%v, want %v", got, want)
		}
	}
	if states := b.Snapshot("app"); len(states) != 5 || states[4].State != Unresolved || states[4].Name != "[fe80::1%none9]:80" {
		t.Errorf("%+v", states)
	}
	if h := c.Find("unix:/run/app.sock").Host(); h != "localhost" {
		t.Error(h)
	}
}
