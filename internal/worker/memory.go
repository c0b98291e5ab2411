package worker

import (
	"math"
	"runtime/debug"
	"runtime/metrics"
	"time"

	"github.com/rs/zerolog"

	"reuseportd/internal/eventloop"
)

// How a worker keeps to its bound. Connections may hold three quarters of what is left beside a process
// that serves nobody; the rest is what isn't counted, and garbage. The collector is told of the whole, so
// it works harder near it. What goes beyond it all the same is taken off the connections' part.
const (
	// aloneSize is the memory of a worker that serves nobody, in bytes.
	aloneSize = 8 << 20
	// leastHeld is what connections may hold however little there is, in bytes.
	leastHeld = 1 << 20
	// watchEvery is how often a worker looks at its memory.
	watchEvery = time.Second
	// slack is how much more than it needs a worker may keep from the system, in bytes.
	slack = 16 << 20
	// shedLogEvery bounds the lines that say what was shed.
	shedLogEvery = 10 * time.Second
)

// setMemory is told the share of the control group's memory, in bytes; 0 is no bound.
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

// holdable returns what connections may hold in a process that is bounded, when so much of it is taken
// by what isn't counted beyond what was thought; 0 is no bound.
func holdable(bound, squeeze int64) int64 {
	if bound == 0 {
		return 0
	}
	return max((bound-aloneSize)*3/4-squeeze, leastHeld)
}

// watchMemory keeps the process within its bound, gives back to the system what was freed, and tells what was
// shed. It ends with the process.
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

// resident returns what the Go runtime has from the system, in bytes.
func resident() int64 {
	s := [...]metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(s[:])
	return int64(s[0].Value.Uint64() - s[1].Value.Uint64())
}

// keeper decides from one look at the memory to the next.
type keeper struct {
	squeeze int64 // taken off what connections may hold
	waited  int   // looks since there was too much
	pause   int   // looks before memory is given back again

	told   eventloop.Shed
	toldAt time.Time
}

// decision is what a look at the memory leads to.
type decision struct {
	bound int64 // of what connections hold
	free  bool  // give memory back to the system
}

// look decides. resident is what the process has, held what connections hold, bound the process's, in
// bytes.
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

	// A steady load has garbage as large as what lives; what is far beyond is left of a burst.
	k.pause = max(k.pause-1, 0)
	if resident <= 2*held+aloneSize+slack {
		k.waited = 0
		return d
	}
	if k.waited++; k.waited >= 2 && k.pause == 0 {
		k.waited, k.pause = 0, freePause
		d.free = true
	}
	return d
}

// freePause is how many looks must be between two times that memory is given back: it costs a collection.
const freePause = 5
