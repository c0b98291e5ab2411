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

// Promises get smaller, so that the last of them doesn't keep room from others.
func TestPromise(t *testing.T) {
	var b Budget
	b.set(400)
	total, last := 0, 1<<30
	for {
		n := b.Promise(128)
		if n == 0 {
			break
		}
		if n > last {
			t.Errorf("promised %d after %d", n, last)
		}
		total, last = total+n, n
	}
	if b.free(forFiles) != 0 || total != b.Used() || last > 4 {
		t.Errorf("promised %d, the last time %d, %d are left", total, last, b.free(forFiles))
	}
	b.Promise(-total)
	if b.Used() != 0 {
		t.Errorf("%d are in use", b.Used())
	}
}
