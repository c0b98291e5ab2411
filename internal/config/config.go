// Package config turns a YAML file into a validated, immutable Config.
//
// It owns the configuration's names, defaults and error messages. It must never bind a listening socket, start a
// goroutine that outlives its caller's context, or hand out a Config that has not passed every check that can be made
// without binding. YAML itself is the matter of the package yaml, noticing that the file has changed that of watch.
//
// How it works: Parse has yaml make a tree of nodes, and a decoder carries the tree into a Config (decode.go). Each
// object of the file, such as a listener, has a source file of its own with its type, its table of keys, its defaults
// and the checks that take more than one key; the tables are all that the decoder knows, and what docs/CONFIGURATION.md
// is tested against. How values are read, those of one key each, stands in scalar.go, measure.go, address.go,
// hostname.go and header.go. What only this machine can answer (addresses, users, paths) is asked through host, which is
// nil in a worker: it trusts what its master has checked. At the end come checks across objects: uses.go and reach.go.
package config

import (
	"slices"
	"time"

	"reuseportd/internal/config/yaml"
)

// Position is a place in the file; Error is what is wrong there, and Errors all that is wrong with a file.
type (
	Position = yaml.Position
	Error    = yaml.Error
	Errors   = yaml.Errors
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
	// Watch makes the master reload by itself when the file changes.
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

// maxSlots bounds workers×threads: each slot holds a shard of every listener.
const maxSlots = 1024

var topLevel = object[Config]{at: "", what: "the configuration", fields: []field[Config]{
	{"workers", readWorkers},
	{"threads", intInto(1, maxSlots, func(c *Config) *int { return &c.Threads })},
	{"user", readUser},
	{"group", readGroup},
	{"sandbox", func(d *decoder, n *yaml.Node, c *Config) { sandboxObject.read(d, n, &c.Sandbox) }},
	{"drain_timeout", durationInto(0, func(c *Config) *time.Duration { return &c.DrainTimeout })},
	{"start_timeout", durationInto(time.Millisecond, func(c *Config) *time.Duration { return &c.StartTimeout })},
	{"worker_timeout", durationInto(0, func(c *Config) *time.Duration { return &c.WorkerTimeout })},
	{"max_draining", intInto(1, 1000, func(c *Config) *int { return &c.MaxDraining })},
	{"probation", durationInto(0, func(c *Config) *time.Duration { return &c.Probation })},
	{"max_connections", intInto(0, 1<<24, func(c *Config) *int { return &c.MaxConnections })},
	{"max_memory", readMaxMemory},
	{"cpu_affinity", readAffinity},
	{"watch", boolInto(func(c *Config) *bool { return &c.Watch })},
	{"log", func(d *decoder, n *yaml.Node, c *Config) { logObject.read(d, n, &c.Log) }},
	{"upstreams", readUpstreams},
	{"listeners", readListeners},
}}

func defaults() *Config {
	return &Config{
		Threads:       1,
		DrainTimeout:  30 * time.Second,
		StartTimeout:  10 * time.Second,
		WorkerTimeout: 5 * time.Second,
		MaxDraining:   8,
		Probation:     10 * time.Second,
		Watch:         true,
		Sandbox:       defaultSandbox,
		Log:           defaultLog,
	}
}

// config reads the whole tree. Workers is 0 until here when it is automatic.
func (d *decoder) config(root *yaml.Node, c *Config) {
	g := topLevel.read(d, root, c)
	if g == nil {
		return
	}
	if !g.has("listeners") {
		d.missing(g, root.Pos, "add listeners: with at least one - name, address and service", "there are no listeners")
	}
	if c.Workers == 0 {
		c.Workers = min(autoWorkers(), maxSlots/c.Threads)
	}
	if c.Slots() > maxSlots {
		d.rep.Add(g.pos("workers", g.pos("threads", root.Pos)), "",
			"workers × threads is %d, more than the %d event loops that are supported", c.Slots(), maxSlots)
	}
	d.needPinning(c)
	d.upstreams(c)
	d.credential(g, c)
	d.reach(c)
}

// readWorkers reads a count or the word auto.
func readWorkers(d *decoder, n *yaml.Node, c *Config) {
	if n.Kind == yaml.Text && n.Text == "auto" {
		return
	}
	v, ok := n.Integer()
	if !ok || v < 1 || v > maxSlots {
		d.wrong(n, "auto is one for each CPU that this process may use", "auto or a whole number from 1 to 1024")
		return
	}
	c.Workers = int(v)
}

// A worker's memory, in bytes: with less than leastMemory it could do little but refuse.
const (
	leastMemory = 16 << 20
	mostMemory  = 1 << 50
)

// readMaxMemory reads a size or one of the words auto and none.
func readMaxMemory(d *decoder, n *yaml.Node, c *Config) {
	v, ok := size(n)
	switch {
	case n.Kind == yaml.Text && n.Text == "auto":
		c.MaxMemory = MemoryAuto
	case n.Kind == yaml.Text && n.Text == "none":
		c.MaxMemory = MemoryNone
	case ok && v >= leastMemory && v <= mostMemory:
		c.MaxMemory = v
	default:
		d.wrong(n, "as in 256MiB; auto is a share of the control group's limit, none is no bound",
			"auto, none or a size from 16MiB to 1048576GiB")
	}
}
