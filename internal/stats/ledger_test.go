package stats

import (
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"reuseportd/internal/eventloop"
)

func newLedger(t *testing.T) *Ledger {
	t.Helper()
	l, err := NewLedger()
	if err != nil {
		t.Fatal(err)
	}
	closeTwice(t, l)
	return l
}

// reopened is the ledger as the next master finds it.
func reopened(t *testing.T, l *Ledger) *Ledger {
	t.Helper()
	next, err := OpenLedger(dup(t, l.Region))
	if err != nil {
		t.Fatal(err)
	}
	closeTwice(t, next)
	return next
}

func closeTwice(t *testing.T, l *Ledger) {
	t.Helper()
	t.Cleanup(func() {
		for range 2 {
			if err := l.Close(); err != nil {
				t.Error(err)
			}
		}
	})
}

func reserve(t *testing.T, l *Ledger, generation uint64, n int) int {
	t.Helper()
	first, _, err := l.Reserve(generation, n, nil)
	if err != nil {
		t.Fatal(err)
	}
	return first
}

// total is what the service has accepted since it began, the past and the pages
// in use together.
func total(l *Ledger) uint64 {
	sum := l.Past().Accepted
	for _, g := range l.Generations() {
		for _, run := range l.Used(g) {
			for i := range run.N {
				sum += l.Read(run.First + i).Accepted
			}
		}
	}
	return sum
}

func wantTotal(t *testing.T, l *Ledger, want ...uint64) {
	t.Helper()
	if got := total(l); !slices.Contains(want, got) {
		t.Errorf("accepted %d in all, want %d", got, want)
	}
	if past := l.Past(); past.Open != 0 || past.UpstreamOpen != 0 {
		t.Errorf("%d and %d are open in the past", past.Open, past.UpstreamOpen)
	}
}

func wantUsed(t *testing.T, l *Ledger, generation uint64, want ...Run) {
	t.Helper()
	if got := l.Used(generation); !slices.Equal(got, want) {
		t.Errorf("generation %d has %v, want %v", generation, got, want)
	}
}

func TestFoldMovesCountersToThePast(t *testing.T) {
	l := newLedger(t)
	l.Add(eventloop.Counters{Accepted: 1000, Open: 3, Wakeups: 1})
	reserve(t, l, 7, 2)
	reserve(t, l, 8, 1)
	*l.Page(0) = eventloop.Counters{Accepted: 1, Open: 1, Wakeups: 10, UpstreamOpen: 2}
	*l.Page(1) = eventloop.Counters{Accepted: 20, BytesOut: 5}
	*l.Page(2) = eventloop.Counters{Accepted: 300}
	for range 2 { // the second time there is nothing left
		l.Fold(0, 2)
		want := eventloop.Counters{Accepted: 1021, BytesOut: 5, Wakeups: 11}
		if got := l.Past(); got != want {
			t.Errorf("past %+v, want %+v", got, want)
		}
		wantTotal(t, l, 1321)
		wantUsed(t, l, 7)
		wantUsed(t, l, 8, Run{2, 1})
	}
	if first := reserve(t, l, 9, 2); first != 0 {
		t.Errorf("page %d, want the freed ones", first)
	}
	wantUsed(t, l, 9, Run{0, 2})
	for i := range 2 {
		if got := l.Read(i); got != (eventloop.Counters{}) {
			t.Errorf("page %d begins with %+v", i, got)
		}
	}
	wantTotal(t, reopened(t, l), 1321)
}

func TestFoldKeepsWhatOnlyANewerReleaseCounts(t *testing.T) {
	l := newLedger(t)
	reserve(t, l, 1, 1)
	last := len(words{}) - 1
	l.page(0).words[last] = 5
	l.Fold(0, 1)
	if got := l.head().active().words[last]; got != 5 {
		t.Errorf("got %d", got)
	}
}

func TestUsed(t *testing.T) {
	l := newLedger(t)
	for _, r := range []struct {
		generation uint64
		n          int
	}{{8, 2}, {7, 1}, {8, 3}, {8, 1}} {
		reserve(t, l, r.generation, r.n)
	}
	l = reopened(t, l)
	wantUsed(t, l, 8, Run{0, 2}, Run{3, 3}, Run{6, 1})
	l.Fold(4, 1)
	wantUsed(t, l, 8, Run{0, 2}, Run{3, 1}, Run{5, 1}, Run{6, 1})
	if got, want := l.Generations(), []uint64{7, 8}; !slices.Equal(got, want) {
		t.Errorf("generations %v, want %v", got, want)
	}
	l.Fold(0, MaxPages)
	if got := l.Generations(); len(got) != 0 {
		t.Errorf("generations %v when all is folded", got)
	}
}

func TestReserveHasLimits(t *testing.T) {
	l := newLedger(t)
	for _, n := range []int{-1, 0, MaxPages + 1} {
		if _, _, err := l.Reserve(1, n, nil); err == nil {
			t.Errorf("reserved %d pages", n)
		}
	}
	reserve(t, l, 1, 10)
	reserve(t, l, 2, MaxPages-10)
	l.Fold(3, 2)
	l.Fold(8, 1)
	if _, _, err := l.Reserve(3, 3, nil); err == nil || !strings.Contains(err.Error(), "free in a row") {
		t.Errorf("three pages where two are free: %v", err)
	}
	if first := reserve(t, l, 3, 2); first != 3 {
		t.Errorf("two pages from %d on, want 3", first)
	}
	if first := reserve(t, l, 3, 1); first != 8 {
		t.Errorf("one page at %d, want 8", first)
	}
}

func TestFoldPanicsOutside(t *testing.T) {
	l := newLedger(t)
	for _, run := range []Run{{-1, 1}, {0, -1}, {0, MaxPages + 1}, {MaxPages, 1}} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("folded %v", run)
				}
			}()
			l.Fold(run.First, run.N)
		}()
	}
}

func TestLedgerIsSparseAndItsSizeFixed(t *testing.T) {
	l := newLedger(t)
	reserve(t, l, 1, 4)
	total(l)
	var st unix.Stat_t
	if err := unix.Fstat(l.FD(), &st); err != nil {
		t.Fatal(err)
	}
	if got, most := st.Blocks*512, int64(headPages+4)*PageSize; got > most {
		t.Errorf("%d bytes allocated, want %d at most", got, most)
	}
	for _, size := range []int64{0, ledgerSize - PageSize, ledgerSize + PageSize} {
		if err := unix.Ftruncate(l.FD(), size); err == nil {
			t.Errorf("truncated to %d", size)
		}
	}
}

func TestOpenLedgerRefuses(t *testing.T) {
	newer, newerPages := newLedger(t), newLedger(t)
	newer.head().header++
	newerPages.head().counters++
	for name, fd := range map[string]int{
		"another version":  dup(t, newer.Region),
		"other counters":   dup(t, newerPages.Region),
		"memory unsealed":  memory(t, ledgerSize, false),
		"memory of zeros":  memory(t, ledgerSize, true),
		"a page too many":  memory(t, ledgerSize+PageSize, true),
		"not a descriptor": -1,
	} {
		probe, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
		if err != nil {
			probe = -1
		}
		if _, err := OpenLedger(fd); err == nil {
			t.Errorf("%s: opened", name)
		}
		wantClosed(t, name, fd)
		// A worker's master has looked at the words; another worker may have spoilt them since.
		r, err := MapPages(probe, 0, 1)
		switch spoilt := strings.HasPrefix(name, "other ") || strings.HasPrefix(name, "another ") || name == "memory of zeros"; {
		case spoilt && err == nil:
			err = r.Close()
			fallthrough
		case spoilt:
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
		case err == nil:
			t.Errorf("%s: mapped", name)
		}
		wantClosed(t, name, probe)
	}
}

func TestMapPages(t *testing.T) {
	l := newLedger(t)
	reserve(t, l, 1, 3)
	for _, run := range []Run{{0, 0}, {-1, 1}, {0, -1}, {0, MaxPages + 1}, {MaxPages, 1}, {1, int(^uint(0) >> 1)}} {
		fd := dup(t, l.Region)
		if _, err := MapPages(fd, run.First, run.N); err == nil {
			t.Errorf("mapped %v", run)
		}
		wantClosed(t, "pages", fd)
	}
	r, err := MapPages(dup(t, l.Region), 1, 2)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if r.Len() != 2 {
		t.Errorf("%d pages, want 2", r.Len())
	}
	r.Page(1).Accepted = 4
	if got := l.Read(2).Accepted; got != 4 || r.Read(1).Accepted != 4 {
		t.Errorf("the ledger reads %d, want 4", got)
	}
	wantTotal(t, l, 4)
}

// Readers in other goroutines and processes see the past before a change or
// after it, never between.
func TestPastIsReadWhole(t *testing.T) {
	l := newLedger(t)
	r := reopened(t, l)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 1000 {
			l.Add(eventloop.Counters{Accepted: 1, Wakeups: 1})
		}
	}()
	var before uint64
	for before < 1000 {
		c := r.Past()
		if c.Accepted != c.Wakeups || c.Accepted < before {
			t.Fatalf("%d accepted, %d wakeups, after %d", c.Accepted, c.Wakeups, before)
		}
		before = c.Accepted
	}
	<-done
}

// Whatever a worker writes into the table of entries, there is room for the next
// generation, and pages that are in use are not given away.
func TestSpoiltEntries(t *testing.T) {
	l := newLedger(t)
	first := reserve(t, l, 1, 2)
	taken := func(i int) bool { return i == first || i == first+1 }
	for i := range l.head().entries {
		l.head().entries[i] = entry{1, 7}
	}
	at, spoilt, err := l.Reserve(2, 4, taken)
	if err != nil || !spoilt || at != first+2 {
		t.Errorf("all used: page %d, spoilt %t, %v", at, spoilt, err)
	}
	clear(l.head().entries[:])
	at, spoilt, err = l.Reserve(3, 4, taken)
	if err != nil || spoilt || at != first+2 {
		t.Errorf("none used: page %d, spoilt %t, %v", at, spoilt, err)
	}
}

// A spoilt header keeps nobody out who was told what the memory is.
func TestAdoptLedger(t *testing.T) {
	l := newLedger(t)
	l.Add(eventloop.Counters{Accepted: 5})
	l.head().header, l.head().counters = 0, ^uint64(0)
	if _, err := AdoptLedger(dup(t, l.Region), ""); err == nil {
		t.Error("opened by its own word")
	}
	if _, err := AdoptLedger(dup(t, l.Region), "another"); err == nil {
		t.Error("opened with another format")
	}
	next, err := AdoptLedger(dup(t, l.Region), Format)
	if err != nil {
		t.Fatal(err)
	}
	defer next.Close()
	if next.Past().Accepted != 5 || l.head().header != ledgerHeader {
		t.Errorf("%+v, header %#x", next.Past(), l.head().header)
	}
}
