// Package control is the conversation between a running master and the person
// or program that asks it for something.
//
// It owns the control socket's protocol and both of its ends. It decides
// nothing: requests go to the coordinator, whose answer is written back.
package control

import (
	"os"
	"time"
)

// Status is what `status --json` prints.
type Status struct {
	Version    string       `json:"version"`
	PID        int          `json:"pid"`
	Started    time.Time    `json:"started"`    // of this master process
	Generation uint64       `json:"generation"` // the serving one
	Config     ConfigInfo   `json:"config"`
	Listeners  []Listener   `json:"listeners"`
	Upstreams  []Upstream   `json:"upstreams,omitempty"`
	NoFile     uint64       `json:"nofile"`             // descriptor limit of each process (RLIMIT_NOFILE)
	Change     string       `json:"change"`             // action in progress, "" when there is none
	Progress   string       `json:"progress,omitempty"` // how far that is, in words
	Groups     []Generation `json:"generations"`
	// Materials are the files that the serving configuration names and whose contents serve.
	Materials []Material `json:"materials,omitempty"`
	// Totals is over all workers, alive and gone, for as long as any process of the
	// service has been there.
	Totals     Totals      `json:"totals"`
	RuntimeDir *RuntimeDir `json:"runtime_dir,omitempty"`
	Log        *Log        `json:"log,omitempty"` // of this master
	// Waiting is what this master waits for beside its other work, in words: mostly a file system.
	Waiting    []string   `json:"waiting,omitempty"`
	LastChange *Receipt   `json:"last_change"`
	Receipts   []*Receipt `json:"receipts"` // of the last twenty changes, oldest first
}

// RuntimeDir is the state of the runtime directory.
type RuntimeDir struct {
	Path   string `json:"path"`
	Unsafe bool   `json:"unsafe"` // others may be able to write to it: it was not checked
	// Remade is what was made anew last, as somebody had removed it; "" if nothing was.
	Remade   string     `json:"remade,omitempty"`
	RemadeAt *time.Time `json:"remade_at,omitempty"`
	Problem  string     `json:"problem,omitempty"` // why something is lost that can't be made anew
}

// Log is how the master's own log fares. Workers count what they drop in log_dropped.
type Log struct {
	Dropped uint64 `json:"dropped"` // lines that found no room
	// Stalled is since when a line waits to be taken, nil if none does.
	Stalled *time.Time `json:"stalled,omitempty"`
}

// ConfigInfo names the serving configuration.
type ConfigInfo struct {
	Path   string    `json:"path"` // "" is the embedded default
	SHA256 string    `json:"sha256"`
	Loaded time.Time `json:"loaded"`
	// Error is why the file's present content was refused, "" if it was not.
	Error string `json:"error"`
}

// Material is files whose contents serve, and are exchanged without a new generation.
type Material struct {
	Kind    string     `json:"kind"`
	Files   []string   `json:"files"`
	Number  uint64     `json:"number"` // grows with each content
	SHA256  string     `json:"sha256"`
	Since   time.Time  `json:"since"`             // when this content was read first
	Expires *time.Time `json:"expires,omitempty"` // of a certificate
	// Error is why what the files have now does not serve, "" if it does.
	Error      string     `json:"error,omitempty"`
	ErrorSince *time.Time `json:"error_since,omitempty"`
	// Behind is how many workers have not taken it yet.
	Behind int `json:"behind,omitempty"`
}

// Listener is one address and its sockets.
type Listener struct {
	Name    string `json:"name"` // "" when no serving configuration has it any more
	Network string `json:"network"`
	Address string `json:"address"`
	Service string `json:"service"`
	TLS     bool   `json:"tls,omitempty"` // its connections are encrypted
	Accept  string `json:"accept"`
	// Steering is what chooses among the shards, SteeringNote why it is not what the
	// configuration asks for, "" if it is.
	Steering     string `json:"steering,omitempty"`
	SteeringNote string `json:"steering_note,omitempty"`
	Shards       int    `json:"shards"`
	Retiring     int    `json:"retiring"` // shards that are being emptied
	Queued       int    `json:"queued"`   // connections waiting to be accepted, all shards
	// Problem is why there is no socket, "" if there is one.
	Problem string `json:"problem,omitempty"`
	// Others listen at the address too, or at one that overlaps it: clients come to either.
	// Share says that this is meant.
	Share  bool    `json:"share,omitempty"`
	Others []Other `json:"others,omitempty"`
}

// Other is a process of another service that listens at an address of this one.
type Other struct {
	Address  string `json:"address"`            // that it listens at
	PID      int    `json:"pid,omitempty"`      // 0 if it can't be seen
	Command  string `json:"command,omitempty"`  // bounded
	Children int    `json:"children,omitempty"` // of its, that have the socket too
	UID      uint32 `json:"uid"`                // that made the socket
	Inode    uint32 `json:"inode"`              // of the socket, as in /proc/PID/fd
	Shared   bool   `json:"shared"`             // it is meant: the listener says share: true
}

// Generation is a generation that is not gone yet.
type Generation struct {
	ID           uint64     `json:"id"`
	State        string     `json:"state"` // starting ready serving draining
	Since        time.Time  `json:"since"` // when it entered that state
	Deadline     *time.Time `json:"deadline,omitempty"`
	ConfigSHA256 string     `json:"config_sha256"`
	Workers      []Worker   `json:"workers"`
}

// Worker is one worker process.
type Worker struct {
	PID         int        `json:"pid"`
	Slot        int        `json:"slot"` // its first
	Slots       int        `json:"slots"`
	State       string     `json:"state"` // starting ready serving draining backoff
	Since       time.Time  `json:"since"`
	Restarts    int        `json:"restarts"`
	RetryAt     *time.Time `json:"retry_at,omitempty"` // in back-off: when it is started again
	LastError   string     `json:"last_error,omitempty"`
	CPUs        []int      `json:"cpus,omitempty"`       // that its loops are pinned to
	MaxMemory   int64      `json:"max_memory,omitempty"` // what bounds it, bytes; 0 is nothing
	Sandbox     *Sandbox   `json:"sandbox,omitempty"`
	Connections uint64     `json:"connections"`
	Upstream    uint64     `json:"upstream_connections"` // to servers, idle ones too
	Totals
}

// Sandbox is what is in force for a worker's process, by the kernel's own word.
type Sandbox struct {
	UID        uint32 `json:"uid"`
	GID        uint32 `json:"gid"`
	NoNewPrivs bool   `json:"no_new_privs"`
	Seccomp    bool   `json:"seccomp"`
	Landlock   int    `json:"landlock"` // the ABI in use; 0 is none
	// Bounding is the capability bounding set in hex: what the process could ever be given.
	Bounding string `json:"bounding"`
	Note     string `json:"note,omitempty"` // what could not be had, and why
}

// Totals are counters that only grow.
type Totals struct {
	Accepted     uint64 `json:"accepted"`
	Requests     uint64 `json:"requests"`
	BytesIn      uint64 `json:"bytes_in"`
	BytesOut     uint64 `json:"bytes_out"`
	HandedOver   uint64 `json:"handed_over"`   // passed to another worker
	TakenOver    uint64 `json:"taken_over"`    // …and taken by one
	Finished     uint64 `json:"finished"`      // ended by themselves while draining
	Cut          uint64 `json:"cut"`           // ended by us before they were done
	AcceptPaused uint64 `json:"accept_paused"` // times max_connections stopped accepting
	AcceptNoFD   uint64 `json:"accept_nofd"`   // times want of descriptors did
	AcceptErrors uint64 `json:"accept_errors"`
	Panics       uint64 `json:"panics"`
	LogDropped   uint64 `json:"log_dropped"` // lines of the access logs, and of the workers' own
	UpstreamIn   uint64 `json:"upstream_in"` // bytes from servers
	UpstreamOut  uint64 `json:"upstream_out"`
	UpstreamKept uint64 `json:"upstream_kept"` // idle connections to servers that were taken over
	IdleClosed   uint64 `json:"idle_closed"`   // kept connections, of clients and to servers, closed to make room
	NoRoom       uint64 `json:"no_room"`       // connections to servers and files that there was no descriptor for
	Stayed       uint64 `json:"stayed"`        // of draining workers, that nobody could take over
	Quiet        uint64 `json:"quiet"`         // of echo, tcp and tunnels, ended because nothing had moved
	Slow         uint64 `json:"slow"`          // ended because the client was slower than min_rate
	// Handshakes of TLS: done, done by a ticket, come to nothing, and kept waiting for others.
	Handshakes   uint64 `json:"handshakes,omitempty"`
	Resumed      uint64 `json:"resumed,omitempty"`
	ShakesFailed uint64 `json:"handshakes_failed,omitempty"`
	ShakesWaited uint64 `json:"handshakes_waited,omitempty"`
	AcceptEmpty  uint64 `json:"accept_empty"` // accepts that found no connection
	Wakeups      uint64 `json:"wakeups"`      // times a loop that waited was woken
	WakeupsVain  uint64 `json:"wakeups_vain"` // …for connections that another loop had
	ShedHeads    uint64 `json:"shed_heads"`   // ended for want of memory: part of a request had arrived
	ShedBodies   uint64 `json:"shed_bodies"`  // …a request or an answer was under way
	ShedIdle     uint64 `json:"shed_idle"`    // …that were idle
	// Connections whose client had as many as it may (max_connections_per_client), and those
	// that there was no room to count.
	ClientRefused   uint64 `json:"client_refused"`
	ClientUncounted uint64 `json:"client_uncounted"`
}

// Receipt is what a change answers.
type Receipt struct {
	Action string `json:"action"` // start reload upgrade stop
	Cause  string `json:"cause"`  // signal, command, file, …
	OK     bool   `json:"ok"`
	Error  string `json:"error"`
	// Generation is the one that serves after the change, Previous before it.
	Generation   uint64    `json:"generation"`
	Previous     uint64    `json:"previous"`
	PID          int       `json:"pid"` // the master's, after the change
	Version      string    `json:"version"`
	ConfigSHA256 string    `json:"config_sha256"`
	Started      time.Time `json:"started"`
	// ReadyMS is from the request to the new generation serving, milliseconds.
	ReadyMS float64 `json:"ready_ms"`
	// Coalesced counts the further requests that this change also answered.
	Coalesced int `json:"coalesced"`
	// What became of the connections of generation Previous since the cut-over.
	HandedOver uint64 `json:"handed_over"`
	Finished   uint64 `json:"finished"`
	Cut        uint64 `json:"cut"`
	// Stayed counts those that could not be handed over, and ended in their old worker or still will;
	// StayedWhy is why, once that is known.
	// Notice is what whoever asked for the change should look at: connections that can't be handed over, listeners
	// that a file takes away that was being written.
	Notice    string `json:"notice,omitempty"`
	Stayed    uint64 `json:"stayed,omitempty"`
	StayedWhy string `json:"stayed_why,omitempty"`
	// Drained says that it is gone, with all its processes: the counts are final.
	Drained bool `json:"drained"`
	// DrainedMS and HandoverMS are from the cut-over to that, and to the last
	// connection taken over, in milliseconds.
	DrainedMS  float64   `json:"drained_ms"`
	HandoverMS float64   `json:"handover_ms"`
	CutOver    time.Time `json:"cut_over"`
	// Others listen at addresses that a stop has left.
	Others []Other `json:"others,omitempty"`
	// Undone is why a later change went back to what was before; "" if none did.
	Undone string `json:"undone,omitempty"`
}

// Request is one line of JSON from a client; the answer is one Response.
type Request struct {
	Command string `json:"command"` // one of Commands
	Cause   string `json:"cause"`   // who asks, for the receipt
	// Force, for upgrade, goes on though somebody takes the end of the master for that of the service.
	Force bool `json:"force,omitempty"`
	// Generation is, for drained, whose end is waited for.
	Generation uint64 `json:"generation,omitempty"`
	// Gone is closed when the client hangs up: nobody waits for the answer any more. nil
	// is never. What was asked for is done all the same.
	Gone <-chan struct{} `json:"-"`
}

// Response answers a Request.
type Response struct {
	Error   string   `json:"error,omitempty"` // the request itself was refused
	Status  *Status  `json:"status,omitempty"`
	Receipt *Receipt `json:"receipt,omitempty"`
	// File travels beside the answer (SCM_RIGHTS): a takeover's custody channel.
	File *os.File `json:"-"`
}

// ErrSuperseded is the Response.Error of a master that is leaving, mostly because
// an upgrade has just replaced it: the request was not begun, ask again.
const ErrSuperseded = "this master is leaving, or an upgrade has just replaced it; ask again"
