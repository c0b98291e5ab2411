package config

// Accept is how the loops of a generation share a listener.
type Accept string

const (
	// AcceptReuseport gives every loop a shard of its own, or Listener.Shards of
	// them to all, each watched by several loops with EPOLLEXCLUSIVE.
	AcceptReuseport Accept = "reuseport"
	// AcceptExclusive gives all loops one socket, watched with EPOLLEXCLUSIVE.
	// It is the default of Unix-domain listeners: SO_REUSEPORT doesn't balance them.
	AcceptExclusive Accept = "exclusive"
	// AcceptMutex gives all loops one socket, watched by the loop that holds a mutex.
	AcceptMutex Accept = "mutex"
	// AcceptShared gives all loops one socket, and wakes all of them: the
	// thundering herd.
	AcceptShared Accept = "shared"
)

// Steering is how the kernel chooses among the shards of a listener.
type Steering string

const (
	SteerHash   Steering = "hash"   // of addresses and ports; the kernel's own
	SteerCPU    Steering = "cpu"    // the shard whose loop is pinned to the CPU that took the packet
	SteerRandom Steering = "random" // any
	SteerLoad   Steering = "load"   // the one whose loop turns and has least to do
)

var (
	accepts   = []Accept{AcceptReuseport, AcceptExclusive, AcceptMutex, AcceptShared}
	steerings = []Steering{SteerHash, SteerCPU, SteerRandom, SteerLoad}
)

// accept checks how loops share the listener.
func (d *decoder) accept(g *given, l *Listener) {
	if l.Network == "unix" && l.Accept == AcceptReuseport {
		if g.has("accept") {
			d.rep.Add(g.entries["accept"].Value.Pos, "remove the key or write exclusive",
				"a Unix socket can't use accept: reuseport, which balances only IP sockets")
			return
		}
		l.Accept = AcceptExclusive
	}
	if l.Accept == AcceptShared {
		d.rep.Warn(g.pos("accept", l.Pos), "accept: exclusive wakes only one",
			"accept: shared wakes every event loop for each connection, the thundering herd")
	}
	if l.Accept != AcceptReuseport {
		for _, key := range []string{"shards", "steering", "steering_fallback"} {
			if g.has(key) {
				d.rep.Add(g.entries[key].Pos, "remove it", "%s is for accept: reuseport, and with accept: %s there is one socket", key, l.Accept)
			}
		}
		return
	}
	if g.has("steering_fallback") && l.Steering != SteerLoad {
		d.rep.Add(g.entries["steering_fallback"].Pos, "remove it", "steering_fallback is for steering: load")
	}
	if l.Share && l.Steering != SteerHash {
		d.rep.Add(g.entries["share"].Pos, "remove share, or steering", "share: true is for steering: hash: others would get no connections by steering: %s", l.Steering)
	}
	if l.Steering == SteerLoad && l.Shards != 0 {
		d.rep.Add(g.entries["shards"].Pos, "remove shards or choose another steering",
			"steering: load needs a socket for each event loop, whose load it looks at")
	}
}
