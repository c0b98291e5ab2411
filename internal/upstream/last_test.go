package upstream

import (
	"errors"
	"net/netip"
	"slices"
	"testing"
)

// had returns the addresses that a chooser's servers have, in order.
func had(s *Set) (all []string) {
	for _, s := range s.pools["app"].list.Load().servers {
		all = append(all, s.Name())
	}
	return all
}

func wantHad(t *testing.T, s *Set, want ...string) {
	t.Helper()
	if got := had(s); !slices.Equal(got, want) {
		t.Errorf("servers %v, want %v", got, want)
	}
}

// gives is an answer for the only name of a set, to a question asked then.
func gives(s *Set, asked int64, addrs ...string) {
	p := s.pools["app"]
	var all []target
	for _, a := range addrs {
		t, _ := withZone(netip.MustParseAddr(a), 80)
		all = append(all, t)
	}
	var err error
	if len(all) == 0 {
		err = errors.New("nobody answers")
	}
	p.answer(p.names[0], asked, all, err)
}

// What a name no longer stands for stays away, whoever starts and whatever can't be asked.
func TestWithdrawnStaysAway(t *testing.T) {
	b := newBoard(t)
	dns := newNameServer(t)
	dns.answer(noError, "10.0.0.1", "10.0.0.2")
	told := newEvents()
	first := newSet(t, b, told.tell, named("app.test:80"))
	first.resolver = dns.resolver()
	stop := run(t, first)
	resolved(t, first)
	dns.answer(noError, "10.0.0.2")
	told.next(t, "its address is 10.0.0.2:80")
	dns.answer(serverBad)
	told.next(t, "the one of before goes on")
	stop()
	for range 3 { // reloads, deaths
		next := newSet(t, reopened(t, b), nil, named("app.test:80"))
		wantHad(t, next, "10.0.0.2:80")
		next.resolver = dns.resolver()
		stop := run(t, next)
		resolved(t, next)
		wantHad(t, next, "10.0.0.2:80")
		stop()
	}
}

// An answer that one worker got is everybody's, also of those that can't ask; what was asked
// for before it doesn't count any more.
func TestLastAnswerIsEverybodys(t *testing.T) {
	b := newBoard(t)
	one, other := newSet(t, b, nil, named("app.test:80")), newSet(t, reopened(t, b), nil, named("app.test:80"))
	now := monotonic() - 1000
	gives(one, now, "10.0.0.1", "10.0.0.2")
	gives(other, now+1)
	wantHad(t, other, "10.0.0.1:80", "10.0.0.2:80")
	gives(other, now+3, "10.0.0.2")
	one.pools["app"].keep(monotonic())
	wantHad(t, one, "10.0.0.2:80")
	gives(one, now+2, "10.0.0.1") // came late
	wantHad(t, one, "10.0.0.2:80")
	wantHad(t, newSet(t, b, nil, named("app.test:80")), "10.0.0.2:80")

	// A worker that writes a time to come doesn't end this.
	last := one.pools["app"].names[0].state.last()
	last.halves[last.number.Load()%2].asked.Store(1 << 62)
	gives(one, now+4, "10.0.0.5")
	gives(other, now+5)
	wantHad(t, other, "10.0.0.5:80")
}

// Two names with one address: each has its own answer.
func TestLastAnswersOfTwoNames(t *testing.T) {
	b := newBoard(t)
	u := named("app.test:80", named("b.test:80").Servers[0])
	s := newSet(t, b, nil, u)
	p := s.pools["app"]
	one, _ := withZone(netip.MustParseAddr("10.0.0.1"), 80)
	for i, n := range p.names {
		p.answer(n, monotonic()+int64(i), []target{one}, nil)
	}
	other, _ := withZone(netip.MustParseAddr("10.0.0.2"), 80)
	p.answer(p.names[0], monotonic(), []target{other}, nil)
	wantHad(t, newSet(t, b, nil, u), "10.0.0.2:80", "10.0.0.1:80")
}

// While an older release asks, its workers' servers are what is known, and no answer that was written
// down before.
func TestLastAnswerOfAnOlderRelease(t *testing.T) {
	b := newBoard(t)
	s := newSet(t, b, nil, named("app.test:80"))
	n := s.pools["app"].names[0]
	gives(s, monotonic(), "10.0.0.1")
	gives(s, monotonic(), "10.0.0.2")
	number := n.state.last().number.Load()
	b.entries[b.find(&key{ofServer, "app", "10.0.0.1:80"})].touched.Store(monotonic() - 2*shown)
	older := b.claim(&key{ofServer, "app", "10.0.0.3:80"}, monotonic())
	store(b.entries[older].name[:], "app.test:80")
	n.state.answer.Store(KeyOf([]byte("10.0.0.3:80"))&^markBits | 4) // an older release's
	next := newSet(t, b, nil, named("app.test:80"))
	wantHad(t, next, "10.0.0.2:80", "10.0.0.3:80") // as it was: all within 30 s
	gives(next, monotonic())
	if got := n.state.last().number.Load(); got == number {
		t.Error("what was taken over isn't written down")
	}
	wantHad(t, newSet(t, b, nil, named("app.test:80")), "10.0.0.2:80", "10.0.0.3:80")
}

// A writer that dies before the end leaves the answer of before; an entry that becomes
// another server's is of no answer; and what nobody has had for long is not known.
func TestLastAnswerStands(t *testing.T) {
	b := newBoard(t)
	s := newSet(t, b, nil, named("app.test:80"))
	gives(s, monotonic(), "10.0.0.1", "10.0.0.2")
	n := s.pools["app"].names[0]
	last := n.state.last()
	half := &last.halves[(last.number.Load()+1)%2]
	for i := range half.servers {
		half.servers[i].Store(^uint64(0))
	}
	wantHad(t, newSet(t, b, nil, named("app.test:80")), "10.0.0.1:80", "10.0.0.2:80")

	i := b.find(&key{ofServer, "app", "10.0.0.1:80"})
	b.entries[i].touched.Store(monotonic() - stale)
	if !b.sweep(i, monotonic()) || b.claim(&key{ofServer, "app", "10.0.0.9:80"}, monotonic()) != i {
		t.Fatal("the entry isn't another's")
	}
	wantHad(t, newSet(t, b, nil, named("app.test:80")), "10.0.0.2:80")

	n.state.touched.Store(monotonic() - stale - 1)
	b.entries[b.find(&key{ofServer, "app", "10.0.0.2:80"})].touched.Store(monotonic() - stale - 1)
	wantHad(t, newSet(t, b, nil, named("app.test:80")))
}

// An answer for which the board has no room stays with who got it.
func TestLastAnswerWithoutRoom(t *testing.T) {
	b := newBoard(t)
	s := newSet(t, b, nil, named("app.test:80"))
	gives(s, monotonic(), "10.0.0.1")
	for i := range maxEntries {
		b.claim(&key{ofServer, "many", string(rune('a' + i))}, monotonic())
	}
	gives(s, monotonic(), "10.0.0.1", "10.0.0.2")
	s.pools["app"].keep(monotonic())
	wantHad(t, s, "10.0.0.1:80", "10.0.0.2:80")
	wantHad(t, newSet(t, b, nil, named("app.test:80")), "10.0.0.1:80")
}
