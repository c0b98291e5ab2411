package upgrade

import (
	"encoding/json"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"reuseportd/internal/config"
	"reuseportd/internal/memfd"
	"reuseportd/internal/record"
	"reuseportd/internal/shard"
	"reuseportd/internal/wire"
)

// things are descriptors of every sort that an orphan may bring, with a record that has the
// first of each.
type things struct {
	rec *record.Record
	fds []int
}

func newThings(t testing.TB) *things {
	t.Helper()
	must := func(fd int, err error) int {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = unix.Close(fd) })
		return fd
	}
	ledger, board := must(memfd.Sized("a", 4096)), must(memfd.Sized("b", 4096))
	conf := must(wire.Memfd("c", []byte("right")))
	wrong := must(wire.Memfd("c", []byte("wrong")))
	own := must(unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0))
	other := must(unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0))
	null := must(unix.Open(os.DevNull, unix.O_RDONLY|unix.O_CLOEXEC, 0))
	cookie, err := shard.Cookie(own)
	if err != nil {
		t.Fatal(err)
	}
	rec := &record.Record{
		LastID: 1, Groups: []record.Group{{Key: "k", Cookies: []uint64{cookie}}},
		Generations: []record.Generation{{
			ID: 1, SHA256: config.Hash([]byte("right")), Workers: []record.Worker{{Slots: []int{0, 1}}},
		}},
	}
	rec.Ledger, _ = record.MemoryOf(ledger, "")
	rec.Board, _ = record.MemoryOf(board, "")
	return &things{rec, []int{ledger, board, conf, own, other, wrong, null}}
}

// openFDs counts the descriptors of this process.
func openFDs(t testing.TB) int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// FuzzBrought plays an orphan that sends any messages with any descriptors: nothing but what
// the record has is kept, their number has a bound, and all is closed in the end.
func FuzzBrought(f *testing.F) {
	th := newThings(f)
	f.Add([]byte{34, 2, 0, 1}, `{"files":["ledger","board"]}`, []byte{34, 1, 3}, `{"leased":[{"key":"k","index":0,"slot":1}]}`, []byte{34, 1, 2}, `{"generation":{"id":1}}`)
	f.Add([]byte{34, 1, 4}, `{"leased":[{"key":"k","index":2305843009213693952}]}`, []byte{34, 1, 6}, `{"files":["load:1"]}`, []byte{35, 0}, `{}`)
	f.Fuzz(func(t *testing.T, h1 []byte, b1 string, h2 []byte, b2 string, h3 []byte, b3 string) {
		before := openFDs(t)
		g := &th.rec.Generations[0]
		b := newBrought(th.rec, g, &g.Workers[0])
		for i, head := range [][]byte{h1, h2, h3, {byte(wire.KindCustodyEnd)}} {
			m := wire.Message{Body: json.RawMessage([]string{b1, b2, b3, "{}"}[i])}
			for j, c := range head[:min(len(head), 40)] {
				switch j {
				case 0:
					m.Kind = wire.Kind(c)
				case 1: // a number of descriptors, for readers
				default:
					if fd, err := unix.FcntlInt(uintptr(th.fds[int(c)%len(th.fds)]), unix.F_DUPFD_CLOEXEC, 3); err == nil {
						m.FDs = append(m.FDs, fd)
					}
				}
			}
			done, err := b.take(m)
			m.Close()
			if done && err == nil && (!th.rec.Ledger.Is(b.ledger) || string(b.raw) != "right") {
				t.Errorf("taken: ledger %d, configuration %q", b.ledger, b.raw)
			}
			if err != nil {
				break
			}
		}
		kept := openFDs(t) - before
		if kept > 3 || len(b.leases) > 2 {
			t.Errorf("%d descriptors and %d leases are kept", kept, len(b.leases))
		}
		for key, shards := range b.shards {
			for i, fd := range shards {
				if c, err := shard.Cookie(fd); err != nil || c != th.rec.Group(key).Cookies[i] {
					t.Errorf("shard %d of %s is another socket", i, key)
				}
			}
		}
		b.close()
		if after := openFDs(t); after != before {
			t.Errorf("%d descriptors, then %d", before, after)
		}
	})
}
