package worker

import (
	"slices"
	"sync"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Posts of one goroutine keep their order and none is lost, however they fall
// between two takes.
func TestMailbox(t *testing.T) {
	const posters, posts = 4, 5000
	b := newMailbox()
	var got [posters][]int
	var wg sync.WaitGroup
	for p := range posters {
		wg.Go(func() {
			for i := range posts {
				b.post(func() { got[p] = append(got[p], i) })
			}
		})
	}
	for n := 0; n < posters*posts; {
		<-b.ready
		for _, f := range b.take() {
			f()
			n++
		}
	}
	wg.Wait()
	for p := range got {
		if len(got[p]) != posts || !slices.IsSorted(got[p]) {
			t.Errorf("poster %d: %d calls, in order: %v", p, len(got[p]), slices.IsSorted(got[p]))
		}
	}
	if left := b.take(); len(left) > 0 {
		t.Errorf("%d are left", len(left))
	}
}

// What is posted by what is called comes with the next take.
func TestMailboxPostsFromPosts(t *testing.T) {
	b := newMailbox()
	depth := 0
	var again func()
	again = func() {
		if depth++; depth < 3 {
			b.post(again)
		}
	}
	b.post(again)
	for want := 1; want <= 3; want++ {
		<-b.ready
		for _, f := range b.take() {
			f()
		}
		if depth != want {
			t.Errorf("called %d times, want %d", depth, want)
		}
	}
	select {
	case <-b.ready:
		t.Error("ready for nothing")
	default:
	}
}

// What may be forgone is, while much is waiting, and what may not is not.
func TestMailboxOffer(t *testing.T) {
	b := newMailbox()
	called := 0
	for range 5000 {
		b.offer(func() { called++ })
	}
	b.post(func() { called += 10000 })
	for _, f := range b.take() {
		f()
	}
	if called < 11000 || called > 11002 {
		t.Errorf("called %d", called)
	}
	b.offer(func() { called = 0 })
	for _, f := range b.take() {
		f()
	}
	if called != 0 {
		t.Error("forgone although nothing was waiting")
	}
}
