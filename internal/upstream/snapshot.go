package upstream

import (
	"cmp"
	"slices"
	"time"
)

// ServerState is what a board has about a server.
type ServerState struct {
	// Address is the server's Name. Name is the name that was looked up for it, "" if none
	// was. A name that has no address yet has a ServerState without Address.
	Address, Name string
	State         State
	// Since is when it entered State, zero if it was never in another. Until is when an
	// ejected server is used again, or one in slow start has its full weight.
	Since, Until time.Time

	Weight, MaxConnections int
	Backup                 bool

	InUse        uint64 // by all loops
	Sessions     uint64 // times it was chosen
	Connects     uint64
	Failures     [Reasons]uint64
	Retries      uint64 // sessions that went on to another server
	Ejections    uint64
	Full         uint64 // times it was passed over because of MaxConnections
	ChecksOK     uint64
	ChecksFailed uint64
	BytesIn      uint64 // from it
	BytesOut     uint64 // to it
}

// UpstreamState is what a board has counted for an upstream as a whole.
type UpstreamState struct {
	Sessions    uint64 // that got a server
	TurnedAway  uint64 // …and those that got none
	Retries     uint64 // further attempts on other servers
	DNSFailures uint64
}

// shown is how long a server is still shown after no worker has had it on a list, in
// nanoseconds.
const shown = int64(30 * time.Second)

// Snapshot returns the servers that an upstream has or lately had, and those still in
// use, in the order of the configuration.
func (b *Board) Snapshot(upstream string) []ServerState {
	type place struct {
		order uint64
		ServerState
	}
	var all []place
	now, clock := monotonic(), time.Now()
	for i := range b.known() {
		e := &b.entries[i]
		id := e.id.Load()
		if id == 0 || load(e.upstream[:]) != upstream {
			continue
		}
		old := now-e.touched.Load() > shown
		p := place{order: e.order.Load()}
		switch e.kind.Load() {
		case ofServer:
			p.ServerState = e.server(now, clock)
			if p.InUse = b.inUse(i); old && p.InUse == 0 {
				continue
			}
		case ofName:
			if old || e.resolved.Load() != 0 {
				continue
			}
			p.Name, p.State = load(e.name[:]), Unresolved
		default:
			continue
		}
		if e.id.Load() == id {
			all = append(all, p)
		}
	}
	slices.SortFunc(all, func(a, b place) int {
		return cmp.Or(cmp.Compare(a.order, b.order), cmp.Compare(a.Address, b.Address))
	})
	out := make([]ServerState, len(all))
	for i := range all {
		out[i] = all[i].ServerState
	}
	return out
}

// Upstream returns the counters of an upstream.
func (b *Board) Upstream(name string) UpstreamState {
	i := b.find(&key{ofUpstream, name, ""})
	if i < 0 {
		return UpstreamState{}
	}
	c := &b.entries[i].counters
	return UpstreamState{
		Sessions: c.sessions.Load(), TurnedAway: c.turnedAway.Load(),
		Retries: c.retries.Load(), DNSFailures: c.dnsFailures.Load(),
	}
}

// server reads an entry. Each word by itself is right, but they are not read at the same
// moment.
func (e *entry) server(now int64, clock time.Time) ServerState {
	c := &e.counters
	s := ServerState{
		Address: load(e.address[:]), Name: load(e.name[:]),
		Weight: int(e.weight.Load()), MaxConnections: int(e.bound.Load()), Backup: e.backup.Load() != 0,
		Sessions: c.sessions.Load(), Connects: c.connects.Load(), Retries: c.retries.Load(),
		Ejections: c.ejections.Load(), Full: c.full.Load(),
		ChecksOK: c.checksOK.Load(), ChecksFailed: c.checksFailed.Load(),
		BytesIn: c.bytesIn.Load(), BytesOut: c.bytesOut.Load(),
	}
	for i := range s.Failures {
		s.Failures[i] = c.failures[i].Load()
	}
	at := func(ns int64) time.Time {
		if ns == 0 {
			return time.Time{}
		}
		return clock.Add(time.Duration(ns - now)).Round(0)
	}
	state, since, until := e.condition(now)
	s.State, s.Since, s.Until = state, at(since), at(until)
	return s
}

// condition returns the state of a server, since when and until when; a time is 0 if
// there is none.
func (e *entry) condition(now int64) (state State, since, until int64) {
	down, ejected := e.checkDown.Load(), e.ejectedUntil.Load()
	back, slow := max(e.upSince.Load(), ejected), e.slowStart.Load()
	switch {
	case down != 0:
		return Down, down, 0
	case ejected > now:
		return Ejected, e.ejectedAt.Load(), ejected
	case back != 0 && now-back < slow:
		return SlowStart, back, back + slow
	}
	return Up, back, 0
}
