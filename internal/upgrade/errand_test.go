package upgrade

import (
	"errors"
	"strconv"
	"testing"
	"time"

	"reuseportd/internal/lifecycle"
	"reuseportd/internal/sandbox"
)

// TestErrandsBounded: the second attempt may succeed where the first one hangs; more begin only when those end.
func TestErrandsBounded(t *testing.T) {
	co := &coordinator{errands: make(errands), events: make(chan func(), 10)}
	hang := make(chan struct{})
	var got []error
	begin := func(kind string) {
		run(co, lifecycle.NewErrand(kind, "reading", time.Now()), func() (int, error) { <-hang; return 0, nil },
			func(_ int, err error) { got = append(got, err) })
	}
	for range mostAlike + 1 {
		begin("a")
	}
	(<-co.events)()
	if len(got) != 1 || !errors.Is(got[0], sandbox.ErrNoAnswer) {
		t.Fatalf("errors %v, want that of the last one", got)
	}
	begin("b")
	close(hang)
	for range mostAlike + 1 {
		(<-co.events)()
	}
	if len(got) != mostAlike+2 || errors.Join(got[1:]...) != nil || len(co.errands) != 0 {
		t.Errorf("errors %v, %d left", got, len(co.errands))
	}
}

// TestManyWorkersWaitTheirTurn: more workers than there are errands all get theirs, and one that nobody waits for any more
// before it has begun never does.
func TestManyWorkersWaitTheirTurn(t *testing.T) {
	co := &coordinator{errands: make(errands), events: make(chan func(), 10)}
	const many = 3 * mostErrands
	under, most := make(chan int, many), make(chan struct{})
	got, unwanted := 0, false
	for i := range many {
		e := lifecycle.NewErrand("worker "+strconv.Itoa(i), "opening", time.Now())
		e.While(func() bool { return i != many-1 || !unwanted })
		run(co, e, func() (int, error) { under <- i; <-most; return 0, nil }, func(_ int, err error) {
			if err != nil || i == many-1 {
				t.Errorf("errand %d: %v", i, err)
			}
			got++
		})
	}
	for range mostPatient {
		<-under
	}
	if len(under) > 0 {
		t.Errorf("more than %d are under way", mostPatient)
	}
	unwanted = true
	other := false
	run(co, lifecycle.NewErrand("configuration", "reading", time.Now()), func() (int, error) { return 0, nil },
		func(_ int, err error) { other = err == nil })
	(<-co.events)()
	if !other {
		t.Error("the errands of workers keep others out")
	}
	close(most)
	for range many - 1 {
		(<-co.events)()
	}
	if got != many-1 || len(co.errands) != 0 {
		t.Errorf("%d are done, %d are left", got, len(co.errands))
	}
}
