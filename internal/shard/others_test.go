package shard

import (
	"errors"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"reuseportd/internal/config"
	"reuseportd/internal/sockdiag"
)

// at returns a copy of l with another host.
func at(l *config.Listener, network, host string) *config.Listener {
	c := *l
	c.Network, c.Address = network, host+l.Address[strings.LastIndexByte(l.Address, ':'):]
	return &c
}

// Two services never share an address, or overlapping ones, unless both say so.
func TestAddressOfAnotherService(t *testing.T) {
	for _, test := range []struct {
		name, network, host, others, at string
		mine, theirs                    bool // share: true
		free                            bool
	}{
		{name: "the same", network: "tcp4", host: "127.0.0.1", others: "tcp4", at: "127.0.0.1"},
		{name: "the same, IPv6", network: "tcp6", host: "[::1]", others: "tcp6", at: "[::1]"},
		{name: "a wildcard over it", network: "tcp4", host: "127.0.0.1", others: "tcp4", at: "0.0.0.0"},
		{name: "one below a wildcard", network: "tcp4", host: "0.0.0.0", others: "tcp4", at: "127.0.0.1"},
		{name: "one below a wildcard, IPv6", network: "tcp6", host: "[::]", others: "tcp6", at: "[::1]"},
		{name: "another address", network: "tcp4", host: "127.0.0.1", others: "tcp4", at: "127.0.0.2", free: true},
		{name: "another family", network: "tcp4", host: "0.0.0.0", others: "tcp6", at: "[::]", free: true},
		{name: "both share", network: "tcp4", host: "127.0.0.1", others: "tcp4", at: "127.0.0.1", mine: true, theirs: true, free: true},
		{name: "only this one shares", network: "tcp4", host: "127.0.0.1", others: "tcp4", at: "127.0.0.1", mine: true},
		{name: "only this one shares, IPv6", network: "tcp6", host: "[::1]", others: "tcp6", at: "[::1]", mine: true},
		{name: "only the other one shares", network: "tcp4", host: "127.0.0.1", others: "tcp4", at: "127.0.0.1", theirs: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := tcp4(t)
			theirs := at(l, test.others, test.at)
			theirs.Share = test.theirs
			listening(t, theirs, 2)
			mine := at(l, test.network, test.host)
			mine.Share = test.mine
			g := newGroup(t, mine)
			must(t, g.Bind(2))
			for what, err := range map[string]error{"look": g.Look(nil), "look in a table": g.Look(sockdiag.Listening()), "listen": g.Listen()} {
				taken := (*TakenError)(nil)
				switch {
				case test.free && err != nil:
					t.Errorf("%s: %v", what, err)
				case !test.free && (!errors.As(err, &taken) || !errors.Is(err, unix.EADDRINUSE)):
					t.Errorf("%s: %v, want it taken", what, err)
				case !test.free && !strings.Contains(err.Error(), test.at) && !strings.Contains(err.Error(), "listens there"):
					t.Errorf("%s: %v doesn't say where", what, err)
				}
			}
			if !test.free && g.Listening() > 0 && !test.mine {
				t.Errorf("%d shards have listened", g.Listening())
			}
		})
	}
}

// A socket without IPV6_V6ONLY gets IPv4 connections.
func TestDualStackSocketOverlaps(t *testing.T) {
	l := tcp4(t)
	other := at(l, "tcp6", "[::]")
	o := newGroup(t, other)
	sa, err := o.addr.sockaddr()
	must(t, err)
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	defer unix.Close(fd)
	must(t, setAll(fd, []option{
		{"SO_REUSEPORT", unix.SOL_SOCKET, unix.SO_REUSEPORT, 1}, {"IPV6_V6ONLY", unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 0},
	}))
	must(t, unix.Bind(fd, sa))
	must(t, unix.Listen(fd, 1))
	g := newGroup(t, l)
	must(t, g.Bind(1))
	if err := g.Look(nil); err == nil || !strings.Contains(err.Error(), "listens at [::]:") {
		t.Errorf("found %v", err)
	}
	if err := g.Listen(); err == nil || g.Listening() != 0 {
		t.Errorf("it listens: %v", err)
	}
}

// Of those that listen at the same moment exactly one gets the address, and the others have never had
// a queue.
func TestOneOfManyGetsTheAddress(t *testing.T) {
	const services, rounds = 4, 20
	for range rounds {
		l := tcp4(t)
		var groups []*Group
		for range services {
			g, err := NewGroup(l)
			must(t, err)
			must(t, g.Bind(2))
			must(t, g.Look(nil))
			_, err = g.Cookies()
			must(t, err)
			groups = append(groups, g)
		}
		var wg sync.WaitGroup
		errs := make([]error, services)
		begin := make(chan struct{})
		for i, g := range groups {
			wg.Go(func() { <-begin; errs[i] = g.Listen() })
		}
		close(begin)
		wg.Wait()
		won := 0
		for i, err := range errs {
			if err == nil {
				won++
			} else if groups[i].Listening() != 0 {
				t.Errorf("a service that was refused has %d shards that listen", groups[i].Listening())
			}
			must(t, groups[i].Remove())
		}
		if won != 1 {
			t.Fatalf("%d of %d services have the address: %v", won, services, errs)
		}
	}
}

// The service's own sockets at overlapping addresses are not in the way, and others are seen
// beside them.
func TestOwnAddressesOverlap(t *testing.T) {
	l := tcp4(t)
	wide := listening(t, at(l, "tcp4", "0.0.0.0"), 2)
	g := newGroup(t, l)
	g.SetOwn(of(wide))
	must(t, g.Bind(2))
	must(t, g.Look(nil))
	must(t, g.Listen())
	must(t, g.check())
	both := of(wide, g)
	stranger := listening(t, func() *config.Listener { s := at(l, "tcp4", "127.0.0.2"); s.Share = true; return s }(), 0)
	stranger.SetOwn(both) // so that it may
	must(t, stranger.Bind(1))
	must(t, stranger.Listen())
	wide.SetOwn(of(g))
	if others, err := wide.Others(nil); err != nil || len(others) != 1 {
		t.Errorf("others: %+v, %v", others, err)
	}
	next := newGroup(t, at(l, "tcp4", "127.0.0.2"))
	next.SetOwn(both)
	must(t, next.Bind(1))
	if err := next.Listen(); !errors.Is(err, unix.EADDRINUSE) {
		t.Errorf("it listens beside a stranger: %v", err)
	}
}

// What a reload says of sharing shows at the sockets that are there.
func TestShareIsUpdated(t *testing.T) {
	l := tcp4(t)
	g := listening(t, l, 2)
	for _, share := range []bool{true, false, true} {
		l.Share = share
		must(t, g.Update(l))
		other := newGroup(t, l)
		other.tuning.share = true
		must(t, other.Bind(1))
		if err := other.Look(nil); (err == nil) != share {
			t.Errorf("share: %v: another one finds %v", share, err)
		}
		must(t, other.CloseDown(0))
	}
}

// A kernel that doesn't tell of its sockets refuses nothing before listen(2), and there as ever.
func TestKernelThatDoesNotTell(t *testing.T) {
	l := tcp4(t)
	g := newGroup(t, l)
	must(t, g.Bind(2))
	other := newGroup(t, l)
	must(t, other.Bind(2))
	var had unix.Rlimit
	must(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &had))
	must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 0, Max: had.Max})) // no netlink socket can be had
	look, table, first, second := g.Look(nil), g.Look(sockdiag.Listening()), g.Listen(), other.Listen()
	must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &had))
	for _, err := range []error{look, table} {
		if taken := (*TakenError)(nil); !errors.Is(err, unix.EMFILE) || errors.As(err, &taken) {
			t.Errorf("it finds %v", err)
		}
	}
	must(t, first)
	if !errors.Is(second, unix.EADDRINUSE) || other.Listening() != 0 {
		t.Errorf("the second one: %v", second)
	}
}

// A Unix socket that somebody has bound and that doesn't listen yet is left alone.
func TestBoundUnixSocketIsNotStale(t *testing.T) {
	l := unixListener(t)
	first := newGroup(t, l)
	must(t, first.Bind(1))
	second := newGroup(t, l)
	if err := second.Bind(1); !errors.Is(err, ErrNotStale) || !strings.Contains(err.Error(), "PID ") {
		t.Errorf("bound: %v", err)
	}
	must(t, first.Listen())
	if err := second.Bind(1); !errors.Is(err, ErrNotStale) || !strings.Contains(err.Error(), "PID ") {
		t.Errorf("listening: %v", err)
	}
}

// Who loses the path between bind(2) and listen(2) notices.
func TestUnixSocketLostBeforeListen(t *testing.T) {
	l := unixListener(t)
	g := newGroup(t, l)
	must(t, g.Bind(1))
	must(t, unix.Unlink(l.Address))
	other := newGroup(t, l)
	must(t, other.Bind(1))
	if err := g.Listen(); !errors.Is(err, unix.EADDRINUSE) {
		t.Errorf("it listens without its path: %v", err)
	}
	must(t, other.Listen())
	dial(t, other)
	accept(t, other, 0)
}
