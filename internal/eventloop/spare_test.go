package eventloop

import "testing"

// TestBufferSteps: a buffer has room for what it is lent for, and is at most half as large
// again.
func TestBufferSteps(t *testing.T) {
	if top := bufferSize(bufferSteps - 1); top != 1<<20 {
		t.Errorf("the largest buffer has %d bytes", top)
	}
	for n := 1; n <= 1<<20; n++ {
		step := bufferStep(n)
		if size := bufferSize(step); size < n || step > 0 && bufferSize(step-1) >= n || n > minBuffer && 2*size > 3*n {
			t.Fatalf("%d bytes get a buffer of %d", n, size)
		}
	}
	if step := bufferStep(1<<20 + 1); step < bufferSteps {
		t.Errorf("more than a MiB gets step %d", step)
	}
}

// TestSpareTrims: what a steady load needs stays, what a burst needed goes with the second Trim.
func TestSpareTrims(t *testing.T) {
	var s Spare[int]
	ended := 0
	end := func(int) { ended++ }
	for i := range 10 {
		s.Keep(i, 8)
	}
	if s.Len() != 8 {
		t.Fatalf("keeps %d of at most 8", s.Len())
	}
	s.Trim(end)
	if ended != 0 {
		t.Fatal("let go of what has just come")
	}
	for range 3 { // two at a time
		a, _ := s.Take()
		b, _ := s.Take()
		s.Keep(b, 8)
		s.Keep(a, 8)
	}
	s.Trim(end)
	if ended != 6 || s.Len() != 2 {
		t.Fatalf("let go of %d, keeps %d", ended, s.Len())
	}
	if v, ok := s.Take(); !ok || v != 7 {
		t.Fatalf("the last one kept is %d, %v", v, ok)
	}
	s.Keep(7, 8)
	s.Trim(end)
	s.Trim(end)
	if _, ok := s.Take(); ok || ended != 8 {
		t.Fatalf("let go of %d in the end", ended)
	}
}
