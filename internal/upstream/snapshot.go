package upstream

import "time"

// ServerState is what a board knows of a server.
type ServerState struct {
	// Address is the server's Name. Name is what was looked up for it, "" if nothing
	// was. A name that has no address yet has a ServerState without Address.
	Address, Name string
	State         State
	// Since is when it entered State, zero if it was never in another. Until is
	// when an ejected one is used again, or one in slow start has its whole weight.
	Since, Until time.Time

	Weight, MaxConnections int
	Backup                 bool

	InUse        uint64 // by all loops
	Sessions     uint64 // times it was chosen
	Connects     uint64
	Failures     [Reasons]uint64
	Retries      uint64 // sessions that went on to another server
	Ejections    uint64
	Full         uint64 // times it was passed over for MaxConnections
	ChecksOK     uint64
	ChecksFailed uint64
	BytesIn      uint64 // from it
	BytesOut     uint64 // to it
}

// UpstreamState is what a board has counted for an upstream as a whole.
type UpstreamState struct {
	Sessions    uint64 // that got a server
	TurnedAway  uint64 // …and that got none
	Retries     uint64 // further attempts on other servers
	DNSFailures uint64
}

// Snapshot returns the servers that an upstream has now, or that are still in use, in the
// order of the configuration.
func (b *Board) Snapshot(upstream string) []ServerState { return nil }

// Upstream returns the counters of an upstream.
func (b *Board) Upstream(name string) UpstreamState { return UpstreamState{} }
