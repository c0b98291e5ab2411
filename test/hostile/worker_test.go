package hostile

import (
	"encoding/binary"
	"errors"
	"math"
	"math/rand/v2"
	"time"

	"golang.org/x/sys/unix"

	"reuseportd/internal/wire"
)

// talk is a hostile worker: for a while it says anything on its control channel, and sometimes
// takes what the master says.
func (l *loot) talk(r *rand.Rand, a *account, null int, end time.Time) {
	mode := r.IntN(4)
	kinds := [][]wire.Kind{anybody, toMaster, {wire.KindBye}, {wire.KindHello}}[mode]
	buf := make([]byte, 1<<18)
	for time.Now().Before(end) {
		kind := pick(r, kinds)
		if kind == wire.KindFailed && r.IntN(50) > 0 {
			continue // it would be over soon
		}
		b, fds := datagram(r, kind)
		switch err := say(l.Channel, null, b, fds); {
		case err == nil:
			a.sent("worker→master", kind)
		case errors.Is(err, unix.EPIPE), errors.Is(err, unix.ECONNRESET):
			return
		default:
			a.count("worker→master: no room")
			time.Sleep(time.Millisecond)
		}
		if r.IntN(200) == 0 {
			if n, _, err := unix.Recvfrom(l.Channel, buf, unix.MSG_DONTWAIT); err == nil && n > 0 {
				a.count("worker→master: a message of the master's taken away")
			}
		}
	}
}

// spoil is a hostile worker that writes into the memory that all share: random words anywhere,
// or all over.
func (l *loot) spoil(r *rand.Rand, a *account, end time.Time) {
	var words [8]byte
	for time.Now().Before(end) {
		for _, fd := range []int{l.Ledger, l.Board} {
			var st unix.Stat_t
			if unix.Fstat(fd, &st) != nil || st.Size < 8 {
				continue
			}
			reach := pick(r, []int64{4096, 1 << 20, st.Size})
			for range 1000 {
				v := pick(r, []uint64{0, 1, math.MaxUint64, 1 << 63, math.MaxInt64, r.Uint64(), uint64(r.Uint32()), uint64(r.IntN(4096))})
				binary.NativeEndian.PutUint64(words[:], v)
				if _, err := unix.Pwrite(fd, words[:], r.Int64N(min(reach, st.Size)/8)*8); err == nil {
					a.count("memory: words written")
				}
			}
			if unix.Ftruncate(fd, 4096) == nil {
				a.fault("a worker may cut the memory short")
			}
		}
		time.Sleep(time.Millisecond)
	}
}
