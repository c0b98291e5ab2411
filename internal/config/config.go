// Package config turns a YAML file into a validated, immutable Config.
//
// It owns the configuration's names, defaults and error messages. It must never bind a socket, start a goroutine that
// outlives its caller's context, or hand out a Config that did not pass every
// check that can be made without binding.
package config

import (
	"fmt"
	"io/fs"
	"net/netip"
	"slices"
	"time"

	"reuseportd/internal/config/yaml"
)

// Config is one validated configuration. It is never changed after Parse
// returned it, so it may be shared by every goroutine.
type Config struct {
	// Workers is the number of worker processes, 1 or more; "auto" has been
	// resolved to the CPUs that this process may use (sched_getaffinity(2)).
	Workers int
	// Threads is the number of event loops in each worker, 1 or more.
	Threads int
	// Credential is what workers run as; nil means: as the master does.
	Credential *Credential
	// Sandbox is what workers are kept in beside that.
	Sandbox Sandbox

	// DrainTimeout bounds how long an old generation may go on serving.
	DrainTimeout time.Duration
	// StartTimeout bounds the time from starting a generation to its readiness.
	StartTimeout time.Duration
	// WorkerTimeout is how long a worker may leave a ping unanswered before it
	// is taken for hung and replaced; 0 turns the watchdog off.
	WorkerTimeout time.Duration
	// MaxDraining bounds the generations that drain at the same time: beyond it the
	// oldest is ended.
	MaxDraining int
	// Probation is how long after a cut-over workers that keep dying bring back
	// what was before; 0 turns that off.
	Probation time.Duration
	// MaxConnections bounds the open connections of one worker; 0 is no bound
	// but the descriptor limit. Reaching it pauses accepting.
	MaxConnections int
	// MaxMemory bounds the memory of one worker, in bytes; MemoryAuto is its share of what the
	// master's control group may use, MemoryNone no bound.
	MaxMemory int64
	// CPUs are the numbers of the CPUs that event loops are pinned to, slot by slot
	// and again from the first when there are more slots; nil pins none. In a
	// worker it is nil: the master says which are its.
	CPUs []int
	// Watch says whether the master reloads by itself when the file changes.
	Watch bool

	Log       Log
	Upstreams []Upstream
	Listeners []Listener

	// Path is the file that was read, "" for the embedded default.
	Path string
	// Warnings are what is allowed, but likely not meant.
	Warnings Errors
	// Raw holds the exact bytes that were parsed; SHA256 is their hash in hex.
	Raw    []byte
	SHA256 string
	// InPlace is when the file was last written to, zero if it was not loaded from one or was moved to its
	// place since: then it was whole.
	InPlace time.Time
}

// Values of Config.MaxMemory beside a number of bytes.
const (
	MemoryAuto int64 = 0
	MemoryNone int64 = -1
)

// MemoryOf returns what bounds a worker whose share of the control group's memory is given,
// in bytes; 0 is no bound, there and here.
func (c *Config) MemoryOf(share int64) int64 {
	switch {
	case c.MaxMemory == MemoryNone:
		return 0
	case c.MaxMemory == MemoryAuto, share != 0 && share < c.MaxMemory:
		return share
	}
	return c.MaxMemory
}

// Slots returns the number of event loops of a generation.
func (c *Config) Slots() int { return c.Workers * c.Threads }

// CPU returns the CPU that the loop of a slot is pinned to, -1 if to none.
func (c *Config) CPU(slot int) int {
	if len(c.CPUs) == 0 {
		return -1
	}
	return c.CPUs[slot%len(c.CPUs)]
}

// Upstream returns the upstream of a name, nil if there is none.
func (c *Config) Upstream(name string) *Upstream {
	i := slices.IndexFunc(c.Upstreams, func(u Upstream) bool { return u.Name == name })
	if i < 0 {
		return nil
	}
	return &c.Upstreams[i]
}

// Roots returns the directories that workers serve files from, each once.
func (c *Config) Roots() []string {
	var roots []string
	for i := range c.Listeners {
		h := c.Listeners[i].HTTP
		if h == nil {
			continue
		}
		for j := range h.Routes {
			if f := h.Routes[j].Files; f != nil && !slices.Contains(roots, f.Root) {
				roots = append(roots, f.Root)
			}
		}
	}
	return roots
}

// Reaches reports whether workers need any file or socket by its path: a root, a server's Unix
// socket.
func (c *Config) Reaches() bool {
	return len(c.Roots()) > 0 || slices.ContainsFunc(c.Upstreams, func(u Upstream) bool {
		return slices.ContainsFunc(u.Servers, func(s Server) bool { return s.Network == "unix" })
	})
}

// LooksUpNames reports whether workers have names to look up: a server's.
func (c *Config) LooksUpNames() bool {
	for i := range c.Upstreams {
		if slices.ContainsFunc(c.Upstreams[i].Servers, func(s Server) bool { return s.Named }) {
			return true
		}
	}
	return false
}

// Credential is what `user` and `group` resolved to.
type Credential struct {
	User, Group string
	UID, GID    uint32
	Groups      []uint32 // supplementary groups
	// Default says that the configuration names no user.
	Default bool
}

// String names who it is, for a person: `www-data (uid 33)`, or `nobody (uid 65534), as no user
// is named`.
func (c *Credential) String() string {
	who := fmt.Sprintf("%s (uid %d)", c.User, c.UID)
	if c.Default {
		who += ", as no user is named"
	}
	return who
}

// Sandbox says what keeps workers from what they have no use for, where the kernel has it.
type Sandbox struct {
	Seccomp  bool // no system calls but those that a worker makes
	Landlock bool // no files but those below the roots, and few of the system's
}

// Log says what the error log holds and where it goes.
type Log struct {
	Level  string // debug | info | warn | error
	Format string // json | text
	File   string // "" is standard error
}

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

// Listener is a configured address and the service behind it. Exactly one of
// HTTP, TCP and Echo is set.
type Listener struct {
	Name string
	// Network is tcp4, tcp6 or unix. Address is canonical: "127.0.0.1:8080",
	// "[::1]:8080", or a path; two listeners never share one.
	Network string
	Address string
	Accept  Accept
	// Shards is how many sockets share the address, 0 is one for each loop. It is
	// 0 with every accept but reuseport.
	Shards int
	// Steering chooses among the shards; Fallback does where the kernel doesn't let
	// us steer by load.
	Steering, Fallback Steering

	// Share lets other services of this user listen at the address too, if they say the
	// same: the kernel spreads clients over all. It is false with a Unix socket.
	Share bool

	// DeferAccept has the kernel keep a connection until its first bytes have come, or
	// a second has passed: TCP_DEFER_ACCEPT, tcp(7).
	DeferAccept bool

	// ClientConnections is how many connections a client address may have here at a
	// time; 0 is no bound. It is 0 with a Unix socket.
	ClientConnections int

	Backlog int         // listen(2) backlog; capped by net.core.somaxconn
	Mode    fs.FileMode // permissions of a Unix socket

	HTTP *HTTP
	TCP  *TCP
	Echo *Echo

	// Pos is where the listener's address stands in the file, for errors that
	// only binding can find.
	Pos Position
}

// Key names the listener's sockets across configurations: whoever serves an
// address serves the same sockets, whatever the listener is called.
func (l *Listener) Key() string { return l.Network + "!" + l.Address }

// Sockets returns how many sockets so many event loops need.
func (l *Listener) Sockets(slots int) int {
	switch {
	case l.Accept != AcceptReuseport:
		return min(slots, 1)
	case l.Shards == 0:
		return slots
	}
	return min(slots, l.Shards)
}

// Service returns the name of the listener's service key.
func (l *Listener) Service() string {
	switch {
	case l.HTTP != nil:
		return "http"
	case l.TCP != nil:
		return "tcp"
	}
	return "echo"
}

// Echo sends back what it receives (RFC 862).
type Echo struct {
	// IdleTimeout closes a connection on which nothing moved for so long; 0 is never.
	IdleTimeout time.Duration
}

// HTTP is an HTTP/1.1 service.
type HTTP struct {
	Routes []Route

	HeaderTimeout    time.Duration // from the first byte of a request to the end of its head: 408
	BodyTimeout      time.Duration // between two reads of a request body: 408
	KeepaliveTimeout time.Duration // between two requests
	WriteTimeout     time.Duration // between two writes that make progress

	MaxRequestLine int   // bytes; beyond it 414
	MaxHeader      int   // bytes of the whole head; beyond it 431
	MaxBody        int64 // bytes; beyond it 413

	// A connection's last answer is that of its MaxRequests-th request, or the first one after
	// MaxLifetime; 0 is no bound.
	MaxRequests int
	MaxLifetime time.Duration

	// MinRate is what a client must send of a body, or take of an answer, in bytes a second; 0 is
	// no bound.
	MinRate int64

	// TunnelTimeout is how long nothing may move in a tunnel; 0 is no bound.
	TunnelTimeout time.Duration

	// TrustedProxies are those whose X-Forwarded-* and Forwarded are kept.
	TrustedProxies []netip.Prefix
	// UnderscoresInHeaders has a proxy pass on fields with underscores in their names.
	UnderscoresInHeaders bool

	// AccessLog is nil when there is none.
	AccessLog *AccessLog
}

// AccessLog says where one line for each request goes.
type AccessLog struct {
	Format string // combined | json
	File   string // "-" is standard output
}

// Route is chosen by host, then by the longest path prefix. Exactly one of
// Respond, Files and Proxy is set.
type Route struct {
	// Host is lower case and without a port; "" matches every host.
	Host string
	// Path is a prefix that begins with "/". "/a/" matches below it; "/a"
	// matches "/a" and what is below "/a/", never "/ab".
	Path string

	Respond *Respond
	Files   *Files
	Proxy   *Proxy
}

// Respond answers every method with one fixed response.
type Respond struct {
	Status  int // 200…599
	Headers []Header
	Body    []byte
	// File is the absolute path of what has the body, "" if Body is it. See Config.Materials.
	File    string
	FilePos Position
}

// Header is one field of a response, name and value already checked against
// RFC 9110 section 5.
type Header struct{ Name, Value string }

// Files serves regular files below Root. The route's prefix is taken off the
// request's path: with path "/static/" and root "/srv/www", "/static/a.css" is
// "/srv/www/a.css".
type Files struct {
	Root string // absolute
	// RootPos is where it stands in the file.
	RootPos Position
	Index   string // file name served for a directory, "index.html" by default
	// Cache is how long a small file may be answered from memory without a look at the
	// disk; 0 is not at all.
	Cache time.Duration
}

// A place in the file, and what is wrong there.
type (
	Position = yaml.Position
	Error    = yaml.Error
	Errors   = yaml.Errors
)
