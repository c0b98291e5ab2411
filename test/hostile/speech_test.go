package hostile

import (
	"encoding/binary"
	"encoding/json"
	"math"
	"math/rand/v2"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"reuseportd/internal/wire"
)

// toMaster are the kinds that a worker may send, toWorker those of a master, and custodial those
// between two masters; the rest is nobody's.
var (
	toMaster  = []wire.Kind{2, 3, 5, 7, 10, 12, 17, 64}
	toWorker  = []wire.Kind{1, 4, 6, 8, 9, 11, 13, 14, 15, 16}
	custodial = []wire.Kind{32, 33, 34, 35, 36, 37, 38}
	anybody   = slices.Concat(toMaster, toWorker, custodial, []wire.Kind{0, 48, 49, 50, 999, math.MaxUint16})
)

// names are those of the fields of all bodies.
var names = strings.Fields(`seq error reason handed_over draining leases version kind key index slot slots page pid
	state since restarts waiting worker generation leased files shards first total retiring id deadline base conf
	last_id action cause started refused ledger_format board_format stayed exclusive command`)

func pick[T any](r *rand.Rand, of []T) T { return of[r.IntN(len(of))] }

// value is anything that JSON can say, with a taste for bounds.
func value(r *rand.Rand, depth int) any {
	switch n := r.IntN(20); {
	case n < 5:
		return pick(r, []any{0, 1, -1, math.MaxInt64, math.MinInt64, uint64(math.MaxUint64), 1e308, -1e308, 3.5, 1 << 31, 1 << 53, r.Uint64()})
	case n < 8:
		return pick(r, []any{
			"", "\x1b[2J\n", strings.Repeat("x", r.IntN(5000)),
			"9999-12-31T23:59:59Z", "-0001-01-01T00:00:00Z", "2262-04-12T00:00:00Z", "0001-01-01T00:00:00Z",
		})
	case n < 9:
		return nil
	case n < 11:
		return r.IntN(2) == 0
	case depth > 3:
		return 0
	case n < 15:
		list := make([]any, r.IntN(6))
		for i := range list {
			list[i] = value(r, depth+1)
		}
		return list
	default:
		return fields(r, depth)
	}
}

func fields(r *rand.Rand, depth int) map[string]any {
	object := make(map[string]any)
	for range r.IntN(7) {
		object[pick(r, names)] = value(r, depth+1)
	}
	return object
}

// body is a body for a kind: mostly one that its reader understands.
func body(r *rand.Rand, kind wire.Kind) []byte {
	var v any = fields(r, 0)
	seq := pick(r, []uint64{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, math.MaxUint64})
	switch n := r.IntN(10); {
	case n == 0:
		return noise(r, r.IntN(300))
	case n == 1:
		v = map[string]any{"reason": strings.Repeat("x", 100<<10)}
	case n == 2:
		v = value(r, 0)
	case n < 8 && kind != wire.KindBye:
		v = map[string]any{"seq": seq, "error": pick(r, []string{"", "no"}), "draining": r.IntN(2) == 0}
	}
	text, err := json.Marshal(v)
	if err != nil || len(text) > wire.MaxBody {
		return []byte("{}")
	}
	return text
}

func noise(r *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// datagram is a message of a kind, now and then with another version, length or number of
// descriptors than it says; fds is how many come with it.
func datagram(r *rand.Rand, kind wire.Kind) (b []byte, fds int) {
	if r.IntN(20) == 0 {
		return noise(r, 1+r.IntN(200)), 0
	}
	text := body(r, kind)
	fds = pick(r, []int{0, 0, 0, 0, 1, 3, wire.MaxFDs})
	said, version, length := fds, uint16(wire.Version), len(text)
	switch r.IntN(15) {
	case 0:
		said = r.IntN(1 << 16)
	case 1:
		version = pick(r, []uint16{0, 2, math.MaxUint16})
	case 2:
		length = int(r.Uint32())
	}
	b = append(b, "RPDW"...)
	b = binary.BigEndian.AppendUint16(b, version)
	b = binary.BigEndian.AppendUint16(b, uint16(kind))
	b = binary.BigEndian.AppendUint16(b, uint16(said))
	b = binary.BigEndian.AppendUint16(b, 0)
	b = binary.BigEndian.AppendUint32(b, uint32(length))
	return append(b, text...), fds
}

// say sends one datagram over a socket without waiting, with descriptors of null.
func say(fd, null int, b []byte, fds int) error {
	var oob []byte
	if fds > 0 {
		oob = unix.UnixRights(slices.Repeat([]int{null}, fds)...)
	}
	_, err := unix.SendmsgN(fd, b, oob, nil, unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT)
	return err
}
