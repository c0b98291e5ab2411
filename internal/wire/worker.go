package wire

import "time"

// Names of the descriptors in Start, Logs and Rescue. An access log's is FileAccess
// followed by the path from the configuration.
const (
	FileConfig    = "config"    // sealed memfd with the configuration's bytes
	FileStats     = "stats"     // memfd of the stats.Ledger
	FileBoard     = "board"     // memfd of the upstream.Board; older masters send none
	FileClients   = "clients"   // memfd of the clients.Table; older masters send none
	FileLoad      = "load"      // load.Table of the generation, if it is steered by load
	FileRescue    = "rescue"    // listening socket at which an orphan waits for a master
	FileRunDir    = "run-dir"   // the runtime directory, held by a shared flock; not to be used otherwise
	FilePprof     = "pprof"     // listening socket at which the worker serves profiles, if asked to
	FileMaterials = "materials" // sealed memfd with a material.Set, if the configuration names such files
	FileLog       = "log"       // the error log, open for appending
	FileAccess    = "access:"   // + path: an access log, open for appending
)

// Start makes a fresh process the worker Index of a generation. Its
// descriptors are those that Files names, in that order.
type Start struct {
	Generation uint64 `json:"generation"`
	Index      int    `json:"index"` // of the worker in its generation, from 0
	Slots      []int  `json:"slots"` // of its event loops
	Path       string `json:"path"`  // of the configuration file, for messages only
	Page       int    `json:"page"`  // the page in the ledger of its first loop; the others follow
	// Workers and CPUs are those of config.Config as the master has resolved them. This
	// process may be allowed to use others.
	Workers int   `json:"workers"`
	CPUs    []int `json:"cpus,omitempty"`
	Memory  int64 `json:"memory,omitempty"` // as in the message Memory
	// Clients is clients.Table.Format of FileClients.
	Clients string   `json:"clients,omitempty"`
	Files   []string `json:"files"`
}

// Ready says that loops and services have been built.
type Ready struct {
	// Room is how many clients the worker has room for; 0: not known.
	Room int `json:"room,omitempty"`
}

// Failed says why a worker can't become ready.
type Failed struct {
	Error string `json:"error"`
}

// Lease is the use of one shard, lent by the master to one event loop.
type Lease struct {
	Key       string `json:"key"`       // config.Listener.Key
	Index     int    `json:"index"`     // of the shard in its group
	Slot      int    `json:"slot"`      // of the loop that is to accept from it
	Exclusive bool   `json:"exclusive"` // other loops have the shard too: EPOLLEXCLUSIVE
	// Lock is the number of the ledger's mutex under which the shard is watched, from 1; 0:
	// none. A worker of an older release ignores it and uses Exclusive.
	Lock int `json:"lock,omitempty"`
	// Unordered says that the kernel's order of the group's shards isn't that of their
	// indexes. The worker tells the next master if this one is killed.
	Unordered bool `json:"unordered,omitempty"`
}

// Lend comes with one descriptor for each lease, in their order.
type Lend struct {
	Seq    uint64  `json:"seq"`
	Leases []Lease `json:"leases"`
}

// Lent answers Lend: every lease is registered, or none is and Error says why.
type Lent struct {
	Seq   uint64 `json:"seq"`
	Error string `json:"error,omitempty"`
}

// Withdraw ends leases.
type Withdraw struct {
	Seq    uint64  `json:"seq"`
	Leases []Lease `json:"leases"`
}

// Withdrawn answers Withdraw: the worker has closed its descriptors of these shards.
type Withdrawn struct {
	Seq uint64 `json:"seq"`
}

// Drain gives the worker TimeoutMS milliseconds to finish its connections; it exits when
// it has none and no lease. Heirs says that other workers will take them over, except
// those of the listeners at Gone, which have no successor with the same service.
type Drain struct {
	Seq       uint64   `json:"seq"`
	TimeoutMS int64    `json:"timeout_ms"`
	Heirs     bool     `json:"heirs"`
	Gone      []string `json:"gone,omitempty"`
}

// Heir comes with one descriptor: a channel to a loop that takes connections.
type Heir struct {
	ID         uint64 `json:"id"`         // of the channel
	Generation uint64 `json:"generation"` // of that worker; the heirs of the highest one are used
	Slot       int    `json:"slot"`       // of the loop that gives
}

// Ward comes with the other end of an Heir's channel.
type Ward struct {
	Generation uint64 `json:"generation"` // of the worker that gives
	PID        int    `json:"pid"`
	Slot       int    `json:"slot"` // of the loop that takes
}

// Grant lets the giver offer Room more descriptors. If Room is 0 the taker is full, and
// Why says why.
type Grant struct {
	Room int    `json:"room"`
	Why  string `json:"why,omitempty"` // why it is full
}

// Offer comes with the descriptor of a sealed memfd that holds the connections
// (handover.Encode), then with theirs.
type Offer struct {
	Seq    uint64 `json:"seq"`
	Format int    `json:"format"`
	Lives  []byte `json:"lives,omitempty"` // handover.EncodeLives; earlier releases send none
}

// Answer makes the taker the owner of the connections of an offer, except the refused
// ones, which are given by index.
type Answer struct {
	Seq     uint64 `json:"seq"`            // 0: the oldest offer without an answer
	None    bool   `json:"none,omitempty"` // all connections are refused
	Refused []int  `json:"refused,omitempty"`
	Reason  string `json:"reason,omitempty"` // of the last refusal
}

// Ping asks whether every loop of the worker is still running.
type Ping struct {
	Seq uint64 `json:"seq"`
}

// Pong answers Ping.
type Pong struct {
	Seq      uint64 `json:"seq"`
	Draining bool   `json:"draining"`
}

// Memory is the worker's share of what the service's control group may use, in bytes; 0: no bound. A
// worker of an older release answers Unknown, and is not sent another.
type Memory struct {
	Share int64 `json:"share"`
}

// Materials comes with the descriptor of a sealed memfd that holds a material.Set, replacing the previous one. It is sent
// only to workers whose configuration has materials.
type Materials struct {
	Number uint64 `json:"number"` // of the set
}

// MaterialsTaken answers Materials: they are in use, or Error says why not.
type MaterialsTaken struct {
	Number uint64 `json:"number"`
	Error  string `json:"error,omitempty"`
}

// Logs comes with newly opened log files, which Files names in their order.
type Logs struct {
	Files []string `json:"files"`
}

// Rescue comes with descriptors, which Files names in their order. They replace those that
// came with Start, because somebody has removed their files from the runtime directory.
type Rescue struct {
	Files []string `json:"files"`
}

// Bye is a worker's last message.
type Bye struct {
	Reason string `json:"reason"`
	// HandedOver is when the last connection was taken over by an heir; zero if none was.
	HandedOver time.Time `json:"handed_over"`
	// Stayed is why connections were not taken over; "" if all were, or the reason isn't
	// known.
	Stayed string `json:"stayed,omitempty"`
}

// Lost says that a message came without its descriptors, because this process had no room for them. What it
// asked for has not been done.
type Lost struct {
	Kind  Kind   `json:"kind"`
	Error string `json:"error"`
}

// Unknown says which message was not understood.
type Unknown struct {
	Version uint16 `json:"version"`
	Kind    Kind   `json:"kind"`
}
