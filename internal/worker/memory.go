package worker

import (
	"math"
	"runtime/debug"
	"runtime/metrics"
	"time"

	"github.com/rs/zerolog"

	"reuseportd/internal/eventloop"
)

// How a worker keeps to its bound. After what a process needs that serves nobody, connections may hold
// three quarters of the rest; the last quarter is for what isn't counted, and for garbage. The garbage
// collector knows the whole bound and works harder near it. What exceeds the bound all the same is
// subtracted from the connections' part.
const (
	// aloneSize is the memory of a worker that serves nobody, in bytes.
	aloneSize = 8 << 20
	// leastHeld is what connections may hold at least, however small the bound is, in bytes.
	leastHeld = 1 << 20
	// watchEvery is how often a worker checks its memory.
	watchEvery = time.Second
	// slack is how much more than it needs a worker keeps before it returns memory to the
	// system, in bytes.
	slack = 4 << 20
	// shedLogEvery is the least time between two log lines about what was shed.
	shedLogEvery = 10 * time.Second
)

// setMemory sets the bound from the worker's share of the control group's memory, in
// bytes; 0 is no bound.
func (w *worker) setMemory(share int64) {
	bound := w.conf.MemoryOf(max(share, 0))
	if w.share.Swap(bound) == bound {
		return
	}
	limit := int64(math.MaxInt64)
	if bound > 0 {
		limit = bound - bound/16
	}
	debug.SetMemoryLimit(limit)
	w.memory.SetBound(holdable(bound, 0))
}

// holdable returns what connections may hold in a process with a bound, both in bytes; 0 is no bound.
// squeeze is what the process takes beyond the estimate.
func holdable(bound, squeeze int64) int64 {
	if bound == 0 {
		return 0
	}
	return max((bound-aloneSize)*3/4-squeeze, leastHeld)
}

// watchMemory keeps the process within its bound, returns freed memory to the system, and logs what was shed.
// It runs until the process ends.
func (w *worker) watchMemory() {
	var k keeper
	for now := range time.Tick(watchEvery) {
		d := k.look(resident(), w.memory.Held(), w.share.Load())
		if d.bound != w.memory.Bound() {
			w.memory.SetBound(d.bound)
		}
		if d.free {
			debug.FreeOSMemory()
		}
		if shed := w.memory.Shed(); shed != k.told && now.Sub(k.toldAt) >= shedLogEvery {
			logShed(&w.log, shed, k.told, w.share.Load())
			k.told, k.toldAt = shed, now
		}
	}
}

func logShed(log *zerolog.Logger, now, before eventloop.Shed, bound int64) {
	log.Warn().Uint64("half_requests", now.Heads-before.Heads).Uint64("bodies", now.Bodies-before.Bodies).
		Uint64("idle", now.Idle-before.Idle).Int64("max_memory", bound).
		Msg("memory is short: connections were ended; more of it, or max_connections, may help")
}

// resident returns the memory that the Go runtime has from the system, in bytes.
func resident() int64 {
	s := [...]metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(s[:])
	return int64(s[0].Value.Uint64() - s[1].Value.Uint64())
}

// keeper is what is remembered from one check of the memory to the next.
type keeper struct {
	squeeze int64 // subtracted from what connections may hold
	waited  int   // checks since the bound was exceeded
	pause   int   // checks until memory may be returned again
	freed   bool  // memory has been returned since the last check
	floor   int64 // what the process held then besides connections' memory; it decays

	told   eventloop.Shed
	toldAt time.Time
}

// decision is the result of a check.
type decision struct {
	bound int64 // for what connections hold
	free  bool  // return memory to the system
}

// look decides, from what the process has (resident), what connections hold (held) and the process's
// bound, in bytes.
func (k *keeper) look(resident, held, bound int64) (d decision) {
	switch over := resident - bound; {
	case bound == 0:
		k.squeeze = 0
	case over > 0:
		k.squeeze = min(k.squeeze+over, bound)
	default:
		k.squeeze -= (k.squeeze + 3) / 4
	}
	d.bound = holdable(bound, k.squeeze)

	// Under a steady load there is as much garbage as live memory. Far more than that is left
	// over from a burst.
	if k.floor -= k.floor / 128; k.freed {
		k.freed, k.floor = false, resident-held
	}
	k.pause = max(k.pause-1, 0)
	if resident <= 2*held+max(aloneSize, k.floor)+slack {
		k.waited = 0
		return d
	}
	if k.waited++; k.waited >= 2 && k.pause == 0 {
		k.waited, k.pause = 0, freePause
		d.free, k.freed = true, true
	}
	return d
}

// freePause is the number of checks between two times that memory is returned, which costs a garbage
// collection.
const freePause = 5
