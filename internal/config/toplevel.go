package config

import (
	"time"

	"reuseportd/internal/config/yaml"
)

// maxSlots bounds workers×threads: each slot holds a shard of every listener.
const maxSlots = 1024

var topLevel = object[Config]{at: "", what: "the configuration", fields: []field[Config]{
	{"workers", readWorkers},
	{"threads", intInto(1, maxSlots, func(c *Config) *int { return &c.Threads })},
	{"user", readUser},
	{"group", readGroup},
	{"sandbox", func(d *decoder, n *yaml.Node, c *Config) { sandboxing.read(d, n, &c.Sandbox) }},
	{"drain_timeout", durationInto(0, func(c *Config) *time.Duration { return &c.DrainTimeout })},
	{"start_timeout", durationInto(time.Millisecond, func(c *Config) *time.Duration { return &c.StartTimeout })},
	{"worker_timeout", durationInto(0, func(c *Config) *time.Duration { return &c.WorkerTimeout })},
	{"max_draining", intInto(1, 1000, func(c *Config) *int { return &c.MaxDraining })},
	{"probation", durationInto(0, func(c *Config) *time.Duration { return &c.Probation })},
	{"max_connections", intInto(0, 1<<24, func(c *Config) *int { return &c.MaxConnections })},
	{"max_memory", readMaxMemory},
	{"cpu_affinity", readAffinity},
	{"watch", boolInto(func(c *Config) *bool { return &c.Watch })},
	{"log", func(d *decoder, n *yaml.Node, c *Config) { logging.read(d, n, &c.Log) }},
	{"upstreams", readUpstreams},
	{"listeners", readListeners},
}}

var logging = object[Log]{at: "log", what: "log", fields: []field[Log]{
	{"level", choiceInto([]string{"debug", "info", "warn", "error"}, func(l *Log) *string { return &l.Level })},
	{"format", choiceInto([]string{"json", "text"}, func(l *Log) *string { return &l.Format })},
	{"file", logFileInto("leave the key out for standard error", func(l *Log) *string { return &l.File })},
}}

var sandboxing = object[Sandbox]{at: "sandbox", what: "sandbox", switches: true, fields: []field[Sandbox]{
	{"seccomp", boolInto(func(s *Sandbox) *bool { return &s.Seccomp })},
	{"landlock", boolInto(func(s *Sandbox) *bool { return &s.Landlock })},
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
		Sandbox:       Sandbox{Seccomp: true, Landlock: true},
		Log:           Log{Level: "info", Format: "json"},
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
