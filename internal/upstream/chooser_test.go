package upstream

import (
	"fmt"
	"maps"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"reuseportd/internal/config"
)

func TestRoundRobin(t *testing.T) {
	for _, test := range []struct {
		weights []int
		want    string
	}{
		{[]int{1}, "1111"},
		{[]int{1, 1, 1}, "123123"},
		{[]int{5, 1, 1}, "11213111121311"},
		{[]int{2, 1}, "121121"},
	} {
		for _, b := range []*Board{newBoard(t), nil} {
			c := newChooserOf(t, newSet(t, b, nil, app(config.BalanceRoundRobin, test.weights...)), 0)
			if got := picks(c, 1, len(test.want)); got != test.want {
				t.Errorf("weights %v: %s, want %s", test.weights, got, test.want)
			}
		}
	}
}

// Each loop begins elsewhere, and over a round each server has its weight exactly.
func TestRoundRobinIsExactInEachLoop(t *testing.T) {
	weights := []int{7, 100, 1, 13}
	s := newSet(t, newBoard(t), nil, app(config.BalanceRoundRobin, weights...))
	begins := map[string]bool{}
	for row := range 8 {
		c := newChooserOf(t, s, row)
		got := map[string]int{}
		for round := range 3 {
			for i := range 121 {
				name, srv := pick(c, 1, 0, nil)
				c.Done(srv)
				got[name]++
				if i == 0 && round == 0 {
					begins[name] = true
				}
			}
		}
		if want := map[string]int{"1": 21, "2": 300, "3": 3, "4": 39}; !maps.Equal(got, want) {
			t.Errorf("row %d: %v, want %v", row, got, want)
		}
	}
	if len(begins) < 2 {
		t.Errorf("all loops begin with %v", begins)
	}
}

func TestLeastConnectionsOfAllLoops(t *testing.T) {
	s := newSet(t, newBoard(t), nil, app(config.BalanceLeast, 1, 1, 2))
	other := newSet(t, reopened(t, s.board), nil, app(config.BalanceLeast, 1, 1, 2))
	loops := []*Chooser{newChooserOf(t, s, 0), newChooserOf(t, s, 5), newChooserOf(t, other, 4095)}
	got := map[string]int{}
	var last *Server
	for i := range 400 {
		name, srv := pick(loops[i%3], int64(i+1), 0, nil)
		got[name]++
		last = srv
	}
	if want := map[string]int{"1": 100, "2": 100, "3": 200}; !maps.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	loops[399%3].Done(last)
	if name, _ := pick(loops[1], 1000, 0, nil); name != last.Name()[7:8] {
		t.Errorf("server %s, want the one that has one less, %s", name, last.Name())
	}
}

func TestRandomOfTwo(t *testing.T) {
	c := newChooserOf(t, newSet(t, newBoard(t), nil, app(config.BalanceRandom, 1, 3, 1)), 0)
	got := map[string]int{}
	for range 5000 {
		name, _ := pick(c, 1, 0, nil)
		got[name]++
	}
	for name, want := range map[string]int{"1": 1000, "2": 3000, "3": 1000} {
		if n := got[name]; n < want-300 || n > want+300 {
			t.Errorf("server %s: %d of 5000, want about %d", name, n, want)
		}
	}
}

// A server that goes gives its keys to all others, and no other key moves; it gets the same back.
func TestHashMovesOnlyTheKeysOfTheServerThatGoes(t *testing.T) {
	const keys = 20000
	choose := func(weights ...int) (at []string, shares map[string]int) {
		c := newChooserOf(t, newSet(t, nil, nil, app(config.BalanceHash, weights...)), 0)
		shares = map[string]int{}
		for i := range keys {
			name, s := pick(c, 1, KeyOf(fmt.Append(nil, "user", i)), nil)
			c.Done(s)
			at = append(at, name)
			shares[name]++
		}
		return at, shares
	}
	all, shares := choose(1, 2, 1, 4)
	for name, want := range map[string]int{"1": keys / 8, "2": keys / 4, "3": keys / 8, "4": keys / 2} {
		if n := shares[name]; n < want*93/100 || n > want*107/100 {
			t.Errorf("server %s has %d keys, want about %d", name, n, want)
		}
	}
	without, _ := choose(1, 2, 1)
	to := map[string]int{}
	for i := range all {
		switch {
		case all[i] == "4":
			to[without[i]]++
		case all[i] != without[i]:
			t.Fatalf("key %d went from %s to %s", i, all[i], without[i])
		}
	}
	if to["1"] < keys/10 || to["2"] < keys/5 || to["3"] < keys/10 {
		t.Errorf("the keys went to %v", to)
	}
}

// What a release hashes the next one must: clients would lose their servers.
func TestKeysAreStable(t *testing.T) {
	for text, want := range map[string]uint64{"": 0xefd01f60ba992926, "alice": 0x3507d047a67c08f4, "10.0.0.1:80": 0x5ed8f8275e47a14a} {
		if got := KeyOf([]byte(text)); got != want {
			t.Errorf("%q: %#x, want %#x", text, got, want)
		}
	}
}

func TestBackupsServeWhenNoOtherCan(t *testing.T) {
	u := app(config.BalanceRoundRobin, 1, 1, 1)
	u.Servers[0].Backup = true
	u.Servers[1].MaxConnections = 1
	s := newSet(t, newBoard(t), nil, u)
	c := newChooserOf(t, s, 0)
	if got := picks(c, 1, 4); got != "2323" {
		t.Errorf("%s, want 2323", got)
	}
	_, second := pick(c, 1, 0, nil)
	var third *Server
	if _, third = pick(c, 1, 0, nil); third.Name() != "10.0.0.3:80" {
		t.Fatal(third.Name())
	}
	for range 3 {
		c.Failed(third, 1, Refused)
	}
	if got := picks(c, 1, 2); got != "11" {
		t.Errorf("%s, want the backup", got)
	}
	c.Done(second)
	if got := picks(c, 1, 2); got != "22" {
		t.Errorf("%s, want the server that is no longer full", got)
	}
}

func TestWhyThereIsNone(t *testing.T) {
	u := app(config.BalanceRoundRobin, 1, 1)
	u.Servers[0].MaxConnections = 1
	b := newBoard(t)
	c := newChooserOf(t, newSet(t, b, nil, u), 0)
	now := monotonic()
	want := func(want string, tried *Tried) *Server {
		t.Helper()
		got, s := pick(c, now, 0, tried)
		if got != want {
			t.Errorf("%s, want %s", got, want)
		}
		return s
	}
	var tried Tried
	first := want("1", &tried)
	tried.Add(first)
	second := want("2", &tried)
	if tried.Add(second); tried.Len() != 2 || !tried.Has(first) {
		t.Errorf("%v", tried)
	}
	c.Done(first)
	want("no other server is up", &tried)
	want("2", nil)
	want("1", nil)
	for range 3 {
		c.Failed(second, now, Reset)
	}
	want("all servers are full", nil)
	for range 3 {
		c.Failed(first, now, Reset)
	}
	want("no server is up", nil)
	if got, want := b.Upstream("app"), (UpstreamState{Sessions: 3, Retries: 1, TurnedAway: 2}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	states := b.Snapshot("app")
	if s := states[0]; s.Retries != 1 || s.Full == 0 || s.Sessions != 2 || s.InUse != 1 || s.Failures[Reset] != 3 {
		t.Errorf("%+v", s)
	}
	if s := states[1]; s.Retries != 0 || s.Sessions != 2 || s.State != Ejected || s.Ejections != 1 || s.MaxConnections != 0 {
		t.Errorf("%+v", s)
	}
}

// However many loops there are in however many processes, a server has at most
// max_connections sessions.
func TestBoundIsNeverExceeded(t *testing.T) {
	for _, balance := range []config.Balance{config.BalanceRoundRobin, config.BalanceLeast, config.BalanceRandom, config.BalanceHash} {
		t.Run(string(balance), func(t *testing.T) {
			t.Parallel()
			u := app(balance, 1, 2)
			u.Servers[0].MaxConnections, u.Servers[1].MaxConnections = 3, 2
			b := newBoard(t)
			sets := []*Set{newSet(t, b, nil, u), newSet(t, reopened(t, b), nil, u)}
			var use [3]atomic.Int64
			var got atomic.Int64
			var all sync.WaitGroup
			for row := range 16 {
				c := newChooserOf(t, sets[row%2], row*200)
				all.Go(func() {
					for i := range 500 {
						s, _ := c.Pick(int64(i+1), mix(uint64(i)), nil)
						if s == nil {
							continue
						}
						got.Add(1)
						if n := use[s.number].Add(1); n > int64(s.Conf.MaxConnections) {
							t.Errorf("%s has %d", s.Name(), n)
						}
						use[s.number].Add(-1)
						c.Done(s)
					}
				})
			}
			all.Wait()
			if got.Load() == 0 {
				t.Error("nobody had any")
			}
			for _, s := range b.Snapshot("app") {
				if s.InUse != 0 {
					t.Errorf("%s: %d in use in the end", s.Address, s.InUse)
				}
			}
		})
	}
}

func TestAdoptedSessionsCount(t *testing.T) {
	u := app(config.BalanceRoundRobin, 1)
	u.Servers[0].MaxConnections = 1
	b := newBoard(t)
	from := newChooserOf(t, newSet(t, b, nil, u), 0)
	to := newChooserOf(t, newSet(t, b, nil, u), 1)
	_, s := pick(from, 1, 0, nil)
	mine := to.Adopt(s.Name())
	from.Done(s)
	if got, _ := pick(from, 1, 0, nil); got != AllFull.String() {
		t.Errorf("%s: the adopted session doesn't count", got)
	}
	to.Done(mine)
	if got, _ := pick(from, 1, 0, nil); got != "1" {
		t.Error(got)
	}
	// Servers that the new configuration no longer has.
	gone := newChooserOf(t, newSet(t, b, nil, app(config.BalanceRoundRobin, 1, 1)), 2)
	if got := picks(gone, 1, 2); got != "12" {
		t.Error(got)
	}
	for _, name := range []string{"10.0.0.2:80", "[::1]:80", "unix:/run/x.sock"} {
		s := to.Adopt(name)
		if s == nil || s.Name() != name || s.Address().String() != name || to.Find(name) != nil || to.Adopt(name) != s {
			t.Errorf("%s: %+v", name, s)
			continue
		}
		s.AddBytes(1, 2)
		to.Failed(s, 1, Reset)
		to.Succeeded(s, 1)
		to.Done(s)
		to.Done(s)
	}
	if s := b.Snapshot("app")[1]; s.Address != "10.0.0.2:80" || s.BytesIn != 1 || s.BytesOut != 2 {
		t.Errorf("%+v", s)
	}
	if to.Adopt("nonsense") != nil {
		t.Error("nonsense is a server")
	}
}

// Hundreds of servers, and a session that tries them all.
func TestEachServerIsTriedOnce(t *testing.T) {
	weights := make([]int, 250)
	for i := range weights {
		weights[i] = 1
	}
	for _, balance := range []config.Balance{config.BalanceRoundRobin, config.BalanceLeast, config.BalanceRandom, config.BalanceHash} {
		c := newChooserOf(t, newSet(t, newBoard(t), nil, app(balance, weights...)), 3)
		var tried Tried
		for range weights {
			s, why := c.Pick(1, 42, &tried)
			if s == nil || tried.Has(s) {
				t.Fatalf("%s: %v, %s", balance, s, why)
			}
			tried.Add(s)
			c.Done(s)
		}
		if s, why := c.Pick(1, 42, &tried); s != nil || why != AllUsed {
			t.Errorf("%s: %v, %s", balance, s, why)
		}
	}
}

func BenchmarkPick(b *testing.B) {
	for _, balance := range []config.Balance{config.BalanceRoundRobin, config.BalanceLeast, config.BalanceRandom, config.BalanceHash} {
		for _, n := range []int{4, 256} {
			weights := make([]int, n)
			for i := range weights {
				weights[i] = 1 + i%3
			}
			c := newChooserOf(b, newSet(b, newBoard(b), nil, app(balance, weights...)), 0)
			b.Run(fmt.Sprint(balance, " of ", n), func(b *testing.B) {
				b.ReportAllocs()
				for i := range b.N {
					s, _ := c.Pick(int64(i)*int64(time.Microsecond), mix(uint64(i)), nil)
					c.Succeeded(s, 1)
					c.Done(s)
				}
			})
		}
	}
}
