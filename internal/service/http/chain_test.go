package http

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"reuseportd/internal/config"
	"reuseportd/internal/eventloop"
	"reuseportd/internal/pack"
	"reuseportd/internal/service/failure"
	"reuseportd/internal/service/http/files"
	"reuseportd/internal/service/http/h1"
	"reuseportd/internal/service/http/message"
	"reuseportd/internal/service/http/stream"
	"reuseportd/internal/upstream"
)

const server = "127.0.0.1:1"

// newProxyThawer is a thawer whose requests all go to an upstream of one server.
func newProxyThawer(t testing.TB) *thawer {
	t.Helper()
	conf := config.Upstream{
		Name: "app", Balance: config.BalanceRoundRobin, ConnectTimeout: time.Hour, IdleConnections: 8, IdleTimeout: time.Hour,
		Servers: []config.Server{{Network: "tcp", Address: server, Weight: 1}},
	}
	board, err := upstream.NewBoard()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = board.Close() })
	set, err := upstream.New([]config.Upstream{conf}, board, nil)
	if err != nil {
		t.Fatal(err)
	}
	chooser, err := set.Chooser("app", 0)
	if err != nil {
		t.Fatal(err)
	}
	routes := []config.Route{{Path: "/", Proxy: &config.Proxy{Upstream: "app", Host: config.HostPreserve}}}
	return newThawerOf(t, routes, func(l *eventloop.Loop) map[string]*Pool {
		return map[string]*Pool{"app": NewPool(l, chooser, func(failure.Failure) {})}
	})
}

// pair has a client's connection and one to the server come in a form, and returns what they are frozen as
// then, in the form that they have and in formChain.
func (th *thawer) pair(t testing.TB, form string, state []byte) (again, chain []byte, err error) {
	t.Helper()
	parcel := func() *eventloop.Parcel {
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = unix.Close(fds[1]) })
		return &eventloop.Parcel{FD: fds[0], File: -1}
	}
	client, far := parcel(), parcel()
	client.Kind, client.State, client.Partner = form, state, far
	far.Kind, far.State = "http-upstream.1", pack.Uint(pack.String(pack.String(nil, "app"), server), 1)
	th.do(func() {
		var c *eventloop.Conn
		if c, err = th.loop.Arrive(th.svc, client); err != nil {
			return
		}
		again, _ = th.v.Freeze(c, nil)
		chain, _ = freezeChain(th.v.Stream(c), nil)
		th.loop.Begin(c)
		if again2, _ := th.v.Freeze(c, nil); th.v.Stream(c) != nil && !bytes.Equal(again2, again) {
			t.Errorf("begun, %q is %q", again, again2)
		}
		th.loop.Cut()
	})
	if err != nil {
		_ = unix.Close(client.FD)
		_ = unix.Close(far.FD)
	}
	return again, chain, err
}

// What a release has written of a proxied exchange or a tunnel goes on, and is written as it was; and the
// form of chains can express it too.
func TestExchangesOfReleases(t *testing.T) {
	th := newProxyThawer(t)
	for _, form := range []string{formRelay, formTunnel} {
		for _, c := range golden(t, form) {
			again, chain, err := th.pair(t, form, c.state)
			if err != nil || !bytes.Equal(again, c.state) {
				t.Errorf("%s, %q: %v, and then %q", form, c.state, err, again)
				continue
			}
			if again, same, err := th.pair(t, formChain, chain); err != nil || !bytes.Equal(again, c.state) || !bytes.Equal(same, chain) {
				t.Errorf("%q as a chain: %v, and then %q", c.state, err, again)
			}
		}
	}
}

// A chain that is cut, or of another kind than its connection, is refused.
func TestChainRefused(t *testing.T) {
	th := newProxyThawer(t)
	all := golden(t, formRelay)
	_, chain, err := th.pair(t, formRelay, all[len(all)-1].state)
	if err != nil {
		t.Fatal(err)
	}
	for n := range chain {
		if _, _, err := th.pair(t, formChain, chain[:n]); !errors.Is(err, pack.ErrMalformed) {
			t.Errorf("%d of %d bytes: %v", n, len(chain), err)
		}
	}
	th = newThawer(t)
	if _, err := th.thawAs(t, formChain, chain, 0, ""); err == nil {
		t.Error("a relay without a server was thawed")
	}
}

// counter is a responder of a kind that no release has.
type counter struct {
	stream.NoBody
	n    int
	gone bool
}

const kindCounter stream.Kind = 60_000

func (c *counter) Room()                 {}
func (c *counter) TimedOut()             {}
func (c *counter) Ended() bool           { return true }
func (c *counter) Gone(unix.Errno, bool) { c.gone = true }
func (c *counter) Held() int             { return 8 }
func (c *counter) record(r *pack.Record) { r.Int(&c.n, 1000) }
func (c *counter) Freeze(b []byte) (stream.Kind, []byte, []int) {
	r := pack.Writing(b)
	c.record(r)
	return kindCounter, r.Written(), nil
}

// A responder of a new kind travels without a form of its own, and a release that doesn't know it says so.
func TestChainOfNewKind(t *testing.T) {
	var thawed *counter
	thaws[kindCounter] = func(_ *service, _ *h1.Stream, _ *eventloop.Conn, r *message.Request, _ stream.Route, b []byte, _ []int) (stream.Responder, error) {
		thawed = new(counter)
		in := pack.Reading(b)
		thawed.record(in)
		if string(r.Path) != "/path" {
			t.Errorf("path %q", r.Path)
		}
		return thawed, in.End()
	}
	known := true
	defer func() {
		if known {
			delete(thaws, kindCounter)
		}
	}()
	st := h1.State{Head: []byte("GET /path HTTP/1.1\r\nHost: h\r\n\r\n"), Read: true, Begun: true, Status: 200, Content: 5}
	r, n, e := pack.Writing(nil), 1, element{int(kindCounter), pack.Uint(nil, 7)}
	st.Record(r)
	r.Int(&n, 1)
	e.record(r)
	th := newThawer(t)
	again, err := th.thawAs(t, formChain, r.Written(), 0, "")
	if err != nil || !bytes.Equal(again, r.Written()) || thawed == nil || thawed.n != 7 || !thawed.gone {
		t.Errorf("%v: %q, %+v", err, again, thawed)
	}
	delete(thaws, kindCounter)
	known = false
	if _, err := th.thawAs(t, formChain, r.Written(), 0, ""); err == nil || !strings.Contains(err.Error(), "kind 60000") {
		t.Errorf("an unknown kind: %v", err)
	}
}

// FuzzChain: no state in the form of chains makes it panic, at once or with what the client sends then, or keep
// a descriptor.
func FuzzChain(f *testing.F) {
	parts := files.Parts{}
	_, state, _ := parts.Freeze(nil)
	for _, c := range []struct {
		st    h1.State
		kind  stream.Kind
		state []byte
		files uint8
	}{
		{h1.State{Read: true, Begun: true, Logged: true}, stream.KindParts, state, 1},
		{h1.State{Head: []byte("GET / HTTP/1.1\r\nHost: h\r\n\r\n"), Read: true, Begun: true, Chunked: true}, stream.KindParts, state, 1},
		{h1.State{Head: []byte(chunkedHead), Left: -1}, stream.KindRelay, state, 0},
		{h1.State{Switched: true, Logged: true}, stream.KindTunnel, []byte{1}, 0},
	} {
		r, n, e := pack.Writing(nil), 1, element{int(c.kind), c.state}
		c.st.Record(r)
		r.Int(&n, 1)
		e.record(r)
		f.Add(r.Written(), c.files, "hello\r\n0\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n")
	}
	th := newThawer(f)
	f.Fuzz(func(t *testing.T, state []byte, n uint8, in string) {
		if len(in) < 10_000 {
			_, _ = th.thawAs(t, formChain, state, int(n%4), in)
		}
	})
}

// FuzzPair: nor does one of an exchange, in any form, whose connection to the server comes with it; and what
// was taken is written so that it is taken again.
func FuzzPair(f *testing.F) {
	th := newProxyThawer(f)
	for _, c := range golden(f, formRelay) {
		f.Add(false, c.state)
		_, chain, err := th.pair(f, formRelay, c.state)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(true, chain)
	}
	f.Fuzz(func(t *testing.T, chained bool, state []byte) {
		form := formRelay
		if chained {
			form = formChain
		}
		_, chain, err := th.pair(t, form, state)
		if err != nil {
			return
		}
		if _, again, err := th.pair(t, formChain, chain); err != nil || !bytes.Equal(again, chain) {
			t.Fatalf("%q became %q, then %q: %v", state, chain, again, err)
		}
	})
}
