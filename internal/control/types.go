// Package control is the protocol by which a person or program asks a running master for
// something.
//
// It owns the control socket and both of its ends. It must never carry out a request
// itself: requests go to a Handler, whose answer is written back.
//
// How it works. Serve (server.go) reads a line of JSON from each client and writes one
// back. Clients have places (places.go): when there are too many, the oldest ones are
// shed, so that status and stop always get in. client.go is the other end, and says for a
// person why no answer came.
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
	Generation uint64       `json:"generation"` // the number of the serving one
	Config     ConfigInfo   `json:"config"`
	Listeners  []Listener   `json:"listeners"`
	Upstreams  []Upstream   `json:"upstreams,omitempty"`
	NoFile     uint64       `json:"nofile"`             // descriptor limit of each process (RLIMIT_NOFILE)
	Change     string       `json:"change"`             // the action in progress, "" if there is none
	Progress   string       `json:"progress,omitempty"` // how far it has come, in words
	Groups     []Generation `json:"generations"`
	// Materials are the files that the serving configuration names and whose contents are in
	// use.
	Materials []Material `json:"materials,omitempty"`
	// Totals are sums over all workers, past and present, since the service began.
	Totals     Totals      `json:"totals"`
	RuntimeDir *RuntimeDir `json:"runtime_dir,omitempty"`
	Log        *Log        `json:"log,omitempty"` // of this master
	// Waiting is what this master waits for in the background, in words: mostly a file system.
	Waiting    []string   `json:"waiting,omitempty"`
	LastChange *Receipt   `json:"last_change"`
	Receipts   []*Receipt `json:"receipts"` // the last twenty changes, oldest first
}

// RuntimeDir is the state of the runtime directory.
type RuntimeDir struct {
	Path   string `json:"path"`
	Unsafe bool   `json:"unsafe"` // it was not checked, so others may be able to write to it
	// Remade is what was last made again because somebody had removed it; "" if nothing was.
	Remade   string     `json:"remade,omitempty"`
	RemadeAt *time.Time `json:"remade_at,omitempty"`
	Problem  string     `json:"problem,omitempty"` // why something that was removed can't be made again
}

// Log is the state of the master's own log. Workers count what they drop in log_dropped.
type Log struct {
	Dropped uint64 `json:"dropped"` // lines dropped because the queue was full
	// Stalled is since when a line has been waiting to be written, nil if none has.
	Stalled *time.Time `json:"stalled,omitempty"`
}

// ConfigInfo names the serving configuration.
type ConfigInfo struct {
	Path   string    `json:"path"` // "": the built-in default
	SHA256 string    `json:"sha256"`
	Loaded time.Time `json:"loaded"`
	// Error is why the file's current content was refused, "" if it wasn't.
	Error string `json:"error"`
}

// Material is files whose contents can be replaced without a new generation.
type Material struct {
	Kind    string     `json:"kind"`
	Files   []string   `json:"files"`
	Number  uint64     `json:"number"` // grows with each new content
	SHA256  string     `json:"sha256"`
	Since   time.Time  `json:"since"`             // when this content was first read
	Expires *time.Time `json:"expires,omitempty"` // of a certificate
	// Error is why the files' current contents are not in use, "" if they are.
	Error      string     `json:"error,omitempty"`
	ErrorSince *time.Time `json:"error_since,omitempty"`
	// Behind is how many workers have not taken it yet.
	Behind int `json:"behind,omitempty"`
}

// Listener is one address and its sockets.
type Listener struct {
	Name    string `json:"name"` // "" if the serving configuration doesn't have it any more
	Network string `json:"network"`
	Address string `json:"address"`
	Service string `json:"service"`
	TLS     bool   `json:"tls,omitempty"` // its connections are encrypted
	Accept  string `json:"accept"`
	// Steering is what chooses among the shards. SteeringNote is why it isn't what the
	// configuration asks for, "" if it is.
	Steering     string `json:"steering,omitempty"`
	SteeringNote string `json:"steering_note,omitempty"`
	Shards       int    `json:"shards"`
	Retiring     int    `json:"retiring"` // shards that are being emptied
	Queued       int    `json:"queued"`   // connections waiting to be accepted, all shards
	// Problem is why there is no socket, "" if there is one.
	Problem string `json:"problem,omitempty"`
	// Others are processes that also listen at the address, or at one that overlaps it, and
	// get a part of the clients. Share says that the configuration allows that.
	Share  bool    `json:"share,omitempty"`
	Others []Other `json:"others,omitempty"`
}

// Other is a process of another service that listens at an address of this one.
type Other struct {
	Address  string `json:"address"`            // at which it listens
	PID      int    `json:"pid,omitempty"`      // 0 if it can't be seen
	Command  string `json:"command,omitempty"`  // bounded
	Children int    `json:"children,omitempty"` // its children that have the socket, too
	UID      uint32 `json:"uid"`                // of the user who made the socket
	Inode    uint32 `json:"inode"`              // of the socket, as in /proc/PID/fd
	Shared   bool   `json:"shared"`             // allowed: the listener has share: true
}

// Generation is a generation that still exists.
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
	Slot        int        `json:"slot"` // its first slot
	Slots       int        `json:"slots"`
	State       string     `json:"state"` // starting ready serving draining backoff
	Since       time.Time  `json:"since"`
	Restarts    int        `json:"restarts"`
	RetryAt     *time.Time `json:"retry_at,omitempty"` // in back-off: when it is started again
	LastError   string     `json:"last_error,omitempty"`
	CPUs        []int      `json:"cpus,omitempty"`       // to which its loops are pinned
	MaxMemory   int64      `json:"max_memory,omitempty"` // its bound in bytes; 0: no bound
	Sandbox     *Sandbox   `json:"sandbox,omitempty"`
	Connections uint64     `json:"connections"`
	Upstream    uint64     `json:"upstream_connections"` // connections to servers, including idle ones
	Totals
}

// Sandbox is what is in force for a worker's process, as the kernel reports it.
type Sandbox struct {
	UID        uint32 `json:"uid"`
	GID        uint32 `json:"gid"`
	NoNewPrivs bool   `json:"no_new_privs"`
	Seccomp    bool   `json:"seccomp"`
	Landlock   int    `json:"landlock"` // the ABI in use; 0: none
	// Bounding is the capability bounding set in hex: all that the process could ever gain.
	Bounding string `json:"bounding"`
	Note     string `json:"note,omitempty"` // what is missing, and why
}

// Totals are counters that only grow.
type Totals struct {
	Accepted     uint64 `json:"accepted"`
	Requests     uint64 `json:"requests"`
	BytesIn      uint64 `json:"bytes_in"`
	BytesOut     uint64 `json:"bytes_out"`
	HandedOver   uint64 `json:"handed_over"`   // given to another worker
	TakenOver    uint64 `json:"taken_over"`    // …and taken over from one
	Finished     uint64 `json:"finished"`      // ended by themselves while draining
	Cut          uint64 `json:"cut"`           // ended by us before they were done
	AcceptPaused uint64 `json:"accept_paused"` // times max_connections stopped accepting
	AcceptNoFD   uint64 `json:"accept_nofd"`   // times a lack of descriptors did
	AcceptErrors uint64 `json:"accept_errors"`
	Panics       uint64 `json:"panics"`
	LogDropped   uint64 `json:"log_dropped"` // lines of the access logs, and of the workers' own
	UpstreamIn   uint64 `json:"upstream_in"` // bytes from servers
	UpstreamOut  uint64 `json:"upstream_out"`
	UpstreamKept uint64 `json:"upstream_kept"` // idle connections to servers that were taken over
	IdleClosed   uint64 `json:"idle_closed"`   // kept connections, of clients and to servers, closed to make room
	NoRoom       uint64 `json:"no_room"`       // connections to servers and files that there was no descriptor for
	Stayed       uint64 `json:"stayed"`        // of draining workers, that no other worker could take over
	Quiet        uint64 `json:"quiet"`         // of echo, tcp and tunnels, ended because nothing had moved
	Slow         uint64 `json:"slow"`          // ended because the client was slower than min_rate
	// TLS handshakes: completed, completed by a ticket, failed, and delayed because others
	// were under way.
	Handshakes   uint64 `json:"handshakes,omitempty"`
	Resumed      uint64 `json:"resumed,omitempty"`
	ShakesFailed uint64 `json:"handshakes_failed,omitempty"`
	ShakesWaited uint64 `json:"handshakes_waited,omitempty"`
	AcceptEmpty  uint64 `json:"accept_empty"` // accepts that found no connection
	Wakeups      uint64 `json:"wakeups"`      // times a loop that waited was woken
	WakeupsVain  uint64 `json:"wakeups_vain"` // …for connections that another loop had
	ShedHeads    uint64 `json:"shed_heads"`   // ended for want of memory: part of a request had arrived
	ShedBodies   uint64 `json:"shed_bodies"`  // …while a request or an answer was under way
	ShedIdle     uint64 `json:"shed_idle"`    // …while they were idle
	// Connections refused because their client had as many as it may
	// (max_connections_per_client), and those that couldn't be counted for lack of room.
	ClientRefused   uint64 `json:"client_refused"`
	ClientUncounted uint64 `json:"client_uncounted"`
}

// Receipt is the outcome of a change.
type Receipt struct {
	Action string `json:"action"` // start reload upgrade stop
	Cause  string `json:"cause"`  // signal, command, file, …
	OK     bool   `json:"ok"`
	Error  string `json:"error"`
	// Generation is the one that serves after the change, Previous the one before.
	Generation   uint64    `json:"generation"`
	Previous     uint64    `json:"previous"`
	PID          int       `json:"pid"` // the master's, after the change
	Version      string    `json:"version"`
	ConfigSHA256 string    `json:"config_sha256"`
	Started      time.Time `json:"started"`
	// ReadyMS is the time from the request until the new generation serves, in milliseconds.
	ReadyMS float64 `json:"ready_ms"`
	// Coalesced counts further requests that were answered by this change.
	Coalesced int `json:"coalesced"`
	// What has become of the connections of generation Previous since the cut-over.
	HandedOver uint64 `json:"handed_over"`
	Finished   uint64 `json:"finished"`
	Cut        uint64 `json:"cut"`
	// Stayed counts those that could not be handed over, and have ended or will end in their old worker; StayedWhy
	// is why, once that is known. Notice is what the person who asked for the change should know: connections that
	// can't be handed over, listeners that have disappeared from a file that was being written.
	Notice    string `json:"notice,omitempty"`
	Stayed    uint64 `json:"stayed,omitempty"`
	StayedWhy string `json:"stayed_why,omitempty"`
	// Drained says that Previous is gone with all its processes: the counts are final.
	Drained bool `json:"drained"`
	// DrainedMS is the time from the cut-over until then, HandoverMS the time from the
	// cut-over until the last connection was taken over, in milliseconds.
	DrainedMS  float64   `json:"drained_ms"`
	HandoverMS float64   `json:"handover_ms"`
	CutOver    time.Time `json:"cut_over"`
	// Others are processes that still listen at the addresses after a stop.
	Others []Other `json:"others,omitempty"`
	// Undone is why a later change returned to the previous configuration; "" if none did.
	Undone string `json:"undone,omitempty"`
}

// Request is one line of JSON from a client; the answer is one Response.
type Request struct {
	Command string `json:"command"` // one of Commands
	Cause   string `json:"cause"`   // who asks; shown in the receipt
	// Force, for upgrade, goes on even if somebody takes the end of the master for that of the
	// service.
	Force bool `json:"force,omitempty"`
	// Generation, for drained, is the one whose end is waited for.
	Generation uint64 `json:"generation,omitempty"`
	// Gone is closed when the client hangs up, and so doesn't wait for the answer any more;
	// nil: never. What was asked for is done even so.
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
