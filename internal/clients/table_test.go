package clients

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

func newTable(t *testing.T) *Table {
	t.Helper()
	table, err := New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := table.Close(); err != nil {
			t.Error(err)
		}
	})
	return table
}

// again is the table as another process has it.
func again(t *testing.T, table *Table) *Table {
	t.Helper()
	fd, err := unix.Dup(table.FD())
	if err != nil {
		t.Fatal(err)
	}
	other, err := Adopt(fd, table.Format())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = other.Close() })
	return other
}

func bound(t *testing.T, table *Table, row, n int) *Bound {
	t.Helper()
	r, err := table.Row(row)
	if err != nil {
		t.Fatal(err)
	}
	return r.Bound("tcp4!127.0.0.1:80", n)
}

func address(i int) netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], uint32(i)+10<<24)
	return netip.AddrFrom4(b)
}

func TestWhoCountsAsOneClient(t *testing.T) {
	k, err := newKey()
	if err != nil {
		t.Fatal(err)
	}
	at := func(s string) client { return k.client(1, netip.MustParseAddr(s)) }
	for _, c := range []struct {
		a, b string
		same bool
	}{
		{"10.0.0.1", "10.0.0.1", true},
		{"10.0.0.1", "::ffff:10.0.0.1", true},
		{"10.0.0.1", "10.0.0.2", false},
		{"2001:db8::1", "2001:db8::ffff:1", true},
		{"2001:db8::1", "2001:db8:0:1::1", false},
		{"0.0.0.0", "::", false},
		{"10.0.0.1", "::10.0.0.1", false},
	} {
		if same := at(c.a) == at(c.b); same != c.same {
			t.Errorf("%s and %s are one client: %v", c.a, c.b, same)
		}
	}
	if k.client(1, address(1)) == k.client(2, address(1)) {
		t.Error("two listeners share a count")
	}
}

// SipHash-2-4 of the 8 bytes 0 to 7 under the key of bytes 0 to 15, from the vectors of its authors.
func TestSipHash(t *testing.T) {
	k := key{0x0706050403020100, 0x0f0e0d0c0b0a0908}
	if got := k.sum(0x0706050403020100); got != 0x93f5f5799a932462 {
		t.Errorf("%#x", got)
	}
}

func TestFormat(t *testing.T) {
	table := newTable(t)
	if other := again(t, table); other.key != table.key {
		t.Errorf("key %x, want %x", other.key, table.key)
	}
	for _, format := range []string{"", "2 1 2", "1", "1 zz 1", "x"} {
		fd, err := unix.Dup(table.FD())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Adopt(fd, format); err == nil {
			t.Errorf("%q is taken", format)
		}
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != unix.EBADF {
			t.Errorf("%q: the descriptor stays open", format)
		}
	}
}

// held is what a test's loop has counted in.
type held struct {
	seat uint16
	who  int
}

func TestRandomOperations(t *testing.T) {
	const most, loops, people = 5, 4, 300
	table := newTable(t)
	bounds, open := make([]*Bound, loops), make([][]held, loops)
	for i := range bounds {
		bounds[i] = bound(t, again(t, table), i*1000, most)
	}
	count := make([]int, people)
	for range 40_000 {
		i, who := rand.IntN(loops), rand.IntN(people)
		switch op := rand.IntN(1000); {
		case op == 0: // its worker is killed
			table.ClearRows(i*1000, 1)
			for _, h := range open[i] {
				count[h.who]--
			}
			open[i] = nil
			bounds[i] = bound(t, again(t, table), i*1000, most)
		case op < 500 && len(open[i]) > 0:
			j := rand.IntN(len(open[i]))
			h := open[i][j]
			bounds[i].Leave(h.seat)
			count[h.who]--
			open[i] = append(open[i][:j], open[i][j+1:]...)
		case op < 520 && len(open[i]) > 0: // one is handed over: it is counted twice for a while
			to := (i + 1) % loops
			h := open[i][0]
			seat := bounds[to].Join(address(h.who))
			bounds[i].Leave(h.seat)
			open[i] = open[i][1:]
			open[to] = append(open[to], held{seat, h.who})
		default:
			seat, ok, _ := bounds[i].Enter(address(who))
			if ok != (count[who] < most) || ok && seat == 0 {
				t.Fatalf("client %d has %d of %d, let in: %v (seat %d)", who, count[who], most, ok, seat)
			}
			if ok {
				count[who]++
				open[i] = append(open[i], held{seat, who})
			}
		}
	}
	for i, b := range bounds {
		for _, h := range open[i] {
			b.Leave(h.seat)
		}
		for s := range b.row.own {
			for w := range b.row.own[s] {
				if word := b.row.own[s][w].Load(); word != 0 {
					t.Fatalf("%#x is left of nobody", word)
				}
			}
		}
	}
}

func TestBoundHoldsBesideOthers(t *testing.T) {
	const most, loops = 3, 4
	table := newTable(t)
	var inside [2]atomic.Int64
	var all sync.WaitGroup
	for i := range loops {
		b := bound(t, again(t, table), i, most)
		all.Go(func() {
			for n := range 10_000 {
				who := n % 2
				seat, ok, _ := b.Enter(address(who))
				if !ok {
					continue
				}
				if now := inside[who].Add(1); now > most {
					t.Errorf("%d inside", now)
				}
				inside[who].Add(-1)
				b.Leave(seat)
			}
		})
	}
	all.Wait()
}

// A connection that moves is counted twice for a moment, and who is refused meanwhile is told so.
func TestDoubt(t *testing.T) {
	table := newTable(t)
	from, to, third := bound(t, again(t, table), 1, 2), bound(t, again(t, table), 2, 2), bound(t, again(t, table), 3000, 2)
	want := func(ok, doubt bool) {
		t.Helper()
		seat, in, unsure := third.Enter(address(1))
		if in != ok || unsure != doubt {
			t.Errorf("let in: %v, in doubt: %v; want %v and %v", in, unsure, ok, doubt)
		}
		if in {
			third.Leave(seat)
		}
	}
	seat, _, _ := from.Enter(address(1))
	want(true, false)
	from.Depart()
	want(true, false)
	to.Join(address(1))
	to.Depart()
	want(false, true)
	to.Settle()
	want(false, true)
	from.Leave(seat)
	from.Settle()
	want(true, false)
	to.Join(address(1))
	want(false, false)
	from.Settle() // one too many
	want(false, false)
	from.Depart()
	want(false, true)
	table.ClearRows(1, 1)
	want(false, false)
	before, _ := table.moving()
	to.Depart()
	to.Settle()
	if after, moving := table.moving(); moving || after == before {
		t.Errorf("moving: %v, stamp %d, before %d", moving, after, before)
	}
}

func TestFullTableLetsIn(t *testing.T) {
	b := bound(t, newTable(t), Rows-1, 1)
	counted := 0
	for i := range 2 * slots {
		seat, ok, _ := b.Enter(address(i))
		if !ok {
			t.Fatalf("client %d is turned away", i)
		}
		if seat != 0 {
			counted++
		}
	}
	if counted < slots*9/10 || counted > slots {
		t.Errorf("%d clients counted in %d slots", counted, slots)
	}
}

func TestClearedRowsGiveMemoryBack(t *testing.T) {
	table := newTable(t)
	for i := range 4 {
		b := bound(t, table, i, 1)
		for n := range 10_000 {
			b.Enter(address(n))
		}
	}
	blocks := func() int64 {
		var st unix.Stat_t
		if err := unix.Fstat(table.FD(), &st); err != nil {
			t.Fatal(err)
		}
		return st.Blocks * 512
	}
	before := blocks()
	again(t, table).ClearRows(0, 4)
	if after := blocks(); before < 4*rowSize || after > headSize {
		t.Errorf("%d bytes before, %d after", before, after)
	}
}

// Whatever a hostile worker writes, each call ends and nothing faults.
func TestSpoiltMemory(t *testing.T) {
	table := newTable(t)
	b := bound(t, table, 7, 10)
	for range 5 {
		for i := range table.used[:4] {
			table.used[i].Store(rand.Uint64())
		}
		table.words.Store(rand.Uint64() & 0xf)
		table.moves[7].Store(rand.Uint64())
		for range 2000 {
			c := table.key.client(b.listener, address(rand.IntN(50)))
			r := table.row(rand.IntN(256))
			word := rand.Uint64()
			if rand.IntN(2) == 0 {
				word = c.mark<<countBits | word&maxCount
			}
			if rand.IntN(8) == 0 {
				word |= maxCount
			}
			r[c.set[rand.IntN(2)]][rand.IntN(ways)].Store(word)
		}
		for range 2000 {
			seat, _, _ := b.Enter(address(rand.IntN(50)))
			b.Join(address(rand.IntN(50)))
			b.Leave(seat)
			b.Depart()
			b.Settle()
			b.Settle()
			b.Leave(uint16(rand.Uint32()))
		}
	}
	for i := range table.used {
		table.used[i].Store(^uint64(0))
	}
	table.words.Store(^uint64(0))
	b.Enter(address(1)) // looks at all rows
	for _, n := range []int{-1, Rows, Rows + 1} {
		table.ClearRows(n, 1)
		if _, err := table.Row(n); err == nil {
			t.Errorf("there is a row %d", n)
		}
	}
}

func TestNothingIsAllocated(t *testing.T) {
	b := bound(t, newTable(t), 0, 2)
	a := netip.MustParseAddr("2001:db8::1")
	if n := testing.AllocsPerRun(100, func() {
		seat, _, _ := b.Enter(a)
		b.Leave(seat)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkEnter(b *testing.B) {
	table, err := New()
	if err != nil {
		b.Fatal(err)
	}
	defer table.Close()
	r, err := table.Row(0)
	if err != nil {
		b.Fatal(err)
	}
	if _, err := table.Row(1); err != nil {
		b.Fatal(err)
	}
	bound := r.Bound("tcp4!127.0.0.1:80", 10)
	for i := range b.N {
		seat, _, _ := bound.Enter(address(i % 1000))
		bound.Leave(seat)
	}
}
