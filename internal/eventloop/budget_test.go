package eventloop

import (
	"math/rand/v2"
	"sync"
	"testing"
)

func TestReserve(t *testing.T) {
	for limit, want := range map[int]int{0: 0, 20: 10, 64: 32, 256: 32, 400: 50, 2000: 250, 2048: 256, 1 << 20: 256} {
		if got := Reserve(limit); got != want {
			t.Errorf("the reserve of %d is %d, want %d", limit, got, want)
		}
	}
}

// Whatever several loops do at the same time, a claim goes beyond no mark, and what is given back is there.
func TestBudgetMarks(t *testing.T) {
	for _, limit := range []int{16, 64, 256, 1000, 20000} {
		var b Budget
		b.set(limit)
		reserve := int64(Reserve(limit))
		if files := b.marks[forFiles].Load(); files > max(int64(limit)-reserve/2, minRoom+reserve/2) {
			t.Fatalf("limit %d: the highest mark is %d", limit, files)
		}
		var wg sync.WaitGroup
		for seed := range uint64(4) {
			wg.Go(func() {
				r := rand.New(rand.NewPCG(seed, uint64(limit)))
				held := 0
				for range 20000 {
					m := markOf(r.IntN(int(marks)))
					switch n := 1 + r.IntN(70); {
					case r.IntN(2) == 0:
						got := b.claim(n, m)
						held += got
						if got < 0 || got > n {
							t.Errorf("claimed %d of %d", got, n)
							return
						}
					case held > 0:
						n = min(n, held)
						held -= n
						b.give(n)
					}
				}
				b.give(held)
			})
		}
		wg.Wait()
		if b.Used() != 0 {
			t.Errorf("limit %d: %d are in use at the end", limit, b.Used())
		}
	}
}

// One after the other, random claims never add up to more than their mark, and fill it.
func TestBudgetIsExact(t *testing.T) {
	var b Budget
	b.set(300)
	r := rand.New(rand.NewPCG(1, 2))
	used := 0
	for range 100000 {
		m := markOf(r.IntN(int(marks)))
		n := 1 + r.IntN(40)
		if r.IntN(2) == 0 {
			n = min(n, used)
			b.give(n)
			used -= n
			continue
		}
		want := max(0, min(n, b.free(m)))
		if got := b.claim(n, m); got != want {
			t.Fatalf("claimed %d of %d with %d free", got, n, want)
		}
		used += want
		if b.Used() != used || want > 0 && b.free(m) < 0 {
			t.Fatalf("%d in use, counted %d", b.Used(), used)
		}
	}
}

// One of two givers has nothing more to send and keeps its promise: the other fills the room all the same, and
// not more.
func TestPromise(t *testing.T) {
	var b Budget
	b.set(400)
	b.loops = make([]*Loop, 2)
	kept := b.Promise(128)
	if kept == 0 || kept > 100 {
		t.Errorf("promised %d at first", kept)
	}
	sent := 0
	for n := b.Promise(128); n > 0; n = b.Promise(128) {
		b.take(n)
		b.Promise(-n)
		sent += n
	}
	if left := b.free(forFiles); left < 0 || left >= 4 || sent != b.Used() {
		t.Errorf("sent %d, %d are left", sent, left)
	}
	b.Promise(-kept)
	if n := b.promised.Load(); n != 0 {
		t.Errorf("%d are promised in the end", n)
	}
}
