package stats

import (
	"math/rand/v2"
	"testing"

	"reuseportd/internal/eventloop"
)

type killed struct{}

// kill does what a master does, and kills it right after the store k, counting from 1. It
// reports whether the master died, and in which state the next one finds the ledger.
func kill(t *testing.T, l *Ledger, k int, do func(*Ledger)) (next *Ledger, died bool) {
	t.Helper()
	l.stored = func() {
		if k--; k == 0 {
			panic(killed{})
		}
	}
	func() {
		defer func() {
			l.stored = nil
			if err := recover(); err != nil {
				_, died = err.(killed)
				if !died {
					panic(err)
				}
			}
		}()
		do(l)
	}()
	return reopened(t, l), died
}

// scene is a ledger with a past of 1000, pages 0 and 1 of generation 1 with 30
// together, page 2 folded, page 3 of generation 2 with 400, and a free page 4
// that isn't clean.
func scene(t *testing.T) *Ledger {
	t.Helper()
	l := newLedger(t)
	l.Add(eventloop.Counters{Accepted: 990})
	reserve(t, l, 1, 2)
	reserve(t, l, 3, 1)
	reserve(t, l, 2, 1)
	for i, n := range []uint64{10, 20, 10, 400} {
		*l.Page(i) = eventloop.Counters{Accepted: n, Open: 1}
	}
	l.Fold(2, 1)
	l.Page(4).Accepted = 5000
	return l
}

const sceneTotal = 1430

var changes = []struct {
	name string
	do   func(*Ledger)
	adds uint64
}{
	{"fold a generation", func(l *Ledger) { l.Fold(0, 2) }, 0},
	{"fold a part", func(l *Ledger) { l.Fold(1, 1) }, 0},
	{"fold all", func(l *Ledger) { l.Fold(0, 8) }, 0},
	{"add", func(l *Ledger) { l.Add(eventloop.Counters{Accepted: 7, Open: 9}) }, 7},
	{"reserve freed pages", func(l *Ledger) { _, _, _ = l.Reserve(4, 1, nil) }, 0},
	{"reserve new pages", func(l *Ledger) { _, _, _ = l.Reserve(4, 3, nil) }, 0},
}

// Whatever the master does and after whichever store it dies, the next one
// counts all of it or none, and can do all that a master does.
func TestKillAfterEveryStore(t *testing.T) {
	for _, change := range changes {
		t.Run(change.name, func(t *testing.T) {
			t.Parallel()
			counted := uint64(sceneTotal)
			for k, died := 1, true; died; k++ {
				l := scene(t)
				l, died = kill(t, l, k, change.do)
				got := total(l)
				if got != counted && got != sceneTotal+change.adds {
					t.Fatalf("killed after store %d: %d counted, want %d or %d", k, got, sceneTotal, sceneTotal+change.adds)
				}
				counted = got // once it counts, it counts after every later store
				wantWhole(t, l)
				carryOn(t, l, got)
				if t.Failed() {
					t.Fatalf("killed after store %d", k)
				}
				if !died && k == 1 {
					t.Fatal("nothing was stored")
				}
			}
			if counted != sceneTotal+change.adds {
				t.Errorf("%d counted in the end, want %d", counted, sceneTotal+change.adds)
			}
		})
	}
}

// wantWhole checks that generation 4 of the changes has all its pages or none.
func wantWhole(t *testing.T, l *Ledger) {
	t.Helper()
	switch runs := l.Used(4); {
	case len(runs) == 0:
	case len(runs) > 1, runs[0] != Run{2, 1} && runs[0] != Run{4, 3}:
		t.Errorf("half reserved: %v", runs)
	default:
		for i := range runs[0].N {
			if got := l.Read(runs[0].First + i); got != (eventloop.Counters{}) {
				t.Errorf("a new page begins with %+v", got)
			}
		}
	}
}

// carryOn is the next master: it folds what is left, starts a worker of its own
// and retires it, each with the counters as they were.
func carryOn(t *testing.T, l *Ledger, want uint64) {
	t.Helper()
	runs := l.Used(4)
	const generation = 1 << 20 // nobody has had it
	first := reserve(t, l, generation, 2)
	wantUsed(t, l, generation, Run{first, 2})
	wantUsed(t, l, 4, runs...)
	wantTotal(t, l, want)
	l.Page(first + 1).Accepted += 3
	for _, g := range l.Generations() {
		for _, run := range l.Used(g) {
			l.Fold(run.First, run.N)
			wantTotal(t, l, want+3)
		}
	}
	l.Add(eventloop.Counters{Accepted: 2})
	if got := l.Past().Accepted; got != want+5 {
		t.Errorf("%d in the past, want %d", got, want+5)
	}
	if got := l.Generations(); len(got) != 0 {
		t.Errorf("generations %v are left", got)
	}
}

// A long life of a service whose masters are killed time and again, also while
// they put in order what the last one left.
func TestManyKills(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	l := newLedger(t)
	var counted, deaths uint64
	for step := range 100 {
		var added uint64
		next, died := kill(t, l, 1+random.IntN(700), func(l *Ledger) {
			for range 3 {
				switch first, n := random.IntN(16), 1+random.IntN(4); random.IntN(3) {
				case 0:
					l.Fold(first, n)
				case 1:
					first, _, err := l.Reserve(uint64(step), n, nil)
					if err != nil {
						t.Fatal(err)
					}
					l.Page(first).Accepted += uint64(n)
					counted += uint64(n)
				case 2:
					added = uint64(n)
					l.Add(eventloop.Counters{Accepted: added})
					counted, added = counted+added, 0
				}
			}
		})
		wantTotal(t, next, counted, counted+added)
		if t.Failed() {
			t.Fatalf("in step %d", step)
		}
		if counted = total(next); died {
			deaths++
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		l = next
	}
	if deaths == 0 {
		t.Error("no master died")
	}
	carryOn(t, l, counted)
}

// Real processes: a worker counts and dies, masters die while they fold what it
// counted.
func TestKilledProcesses(t *testing.T) {
	l := newLedger(t)
	var want uint64
	for _, k := range []int{1, 300, len(words{}) + 3, len(words{}) + 4, len(words{}) + 5, 9999} {
		first := reserve(t, l, 1, 2)
		process(t, l.Region, "worker", first, 2)
		want += 5
		wantTotal(t, l, want)
		process(t, l.Region, "master", first, 2, k)
		wantTotal(t, l, want)
	}
	carryOn(t, reopened(t, l), want)
}
