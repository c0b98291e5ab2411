// Package custody is the form in which what a service consists of goes from
// one holder to a master: from the master before it (an upgrade or a
// takeover), or from the workers that a killed master has left (adoption).
//
// It owns the bodies of wire.KindHello, KindCustody and KindCustodyEnd and what
// arrives of them. What is made of it is the master's affair.
//
// Parts come one behind the other, End ends them. From a master they come in two
// lots. The first, in answer to Hello, is what doesn't change while the next
// master gets ready: sockets, lock, control socket. The second, in answer to
// Commit, is the workers as they are at that moment. Descriptors are duplicates:
// until the next master says that it is ready, nothing has been given up. A worker
// sends one lot, of itself.
package custody

import (
	"time"

	"reuseportd/internal/config"
	"reuseportd/internal/control"
	"reuseportd/internal/eventloop"
	"reuseportd/internal/wire"
)

// Hello is the next master's first word.
type Hello struct {
	PID     int    `json:"pid"`
	Version string `json:"version"`
}

// Part is the body of wire.KindCustody. Exactly one field is set.
type Part struct {
	Files      []string     `json:"files,omitempty"` // with one descriptor each
	Shards     *Shards      `json:"shards,omitempty"`
	Leased     []wire.Lease `json:"leased,omitempty"` // with the shard of each
	Generation *Generation  `json:"generation,omitempty"`
	Worker     *Worker      `json:"worker,omitempty"`
}

// Names of the descriptors in Part.Files.
const (
	FileLock      = "lock"
	FileControl   = "control"
	FileLedger    = "ledger"
	FileBoard     = "board"     // of upstreams; older masters and workers have none
	FileClients   = "clients"   // the clients.Table; likewise
	FileImage     = "image"     // the sender's binary
	FileConfig    = "config"    // what to serve in place of the file's content
	FileMaterials = "materials" // sealed memfd of a material.Set: a worker's, or what no file has; older masters skip it
	FileLoad      = "load:"     // + ID of a generation: its load.Table; older masters skip it
)

// Shards comes with the descriptors of a group's shards from First on.
type Shards struct {
	Key      string `json:"key"`
	First    int    `json:"first"`
	Total    int    `json:"total"`
	Retiring *int   `json:"retiring,omitempty"` // the first of those that go
	// Unordered says that the kernel's order is another one.
	Unordered bool `json:"unordered,omitempty"`
}

// Generation is a generation that is not gone. It comes with a sealed memfd of its
// configuration's bytes.
type Generation struct {
	ID         uint64             `json:"id"`
	State      string             `json:"state"`
	Since      time.Time          `json:"since"`
	Deadline   time.Time          `json:"deadline"`
	Base       eventloop.Counters `json:"base"` // when the drain began
	HandedOver time.Time          `json:"handed_over"`
	Conf       *config.Config     `json:"conf"` // but for Raw
}

// Worker comes with its pidfd and, from a master, before that its control channel;
// a worker that sends it itself is at the other end of it. One in back-off has neither.
type Worker struct {
	Generation uint64                  `json:"generation"`
	Index      int                     `json:"index"`
	Slots      []int                   `json:"slots"`
	Page       int                     `json:"page"`
	PID        int                     `json:"pid"`
	State      string                  `json:"state"`
	Since      time.Time               `json:"since"`
	Restarts   int                     `json:"restarts"`
	Leases     []Lease                 `json:"leases"`
	Waiting    map[uint64][]wire.Lease `json:"waiting"`
	Sandbox    *control.Sandbox        `json:"sandbox,omitempty"` // from a master: what is in force
}

// Lease is one that a worker has or is about to have.
type Lease struct {
	wire.Lease
	Acknowledged bool `json:"acknowledged"`
}

// End ends a lot and carries the numbers that go on.
type End struct {
	LastID   uint64             `json:"last_id"`
	Seq      uint64             `json:"seq"`
	Receipts []*control.Receipt `json:"receipts"`
	Loaded   time.Time          `json:"loaded"`  // when the serving configuration was
	Action   string             `json:"action"`  // of the change: upgrade, takeover or rollback
	Cause    string             `json:"cause"`   // of it
	Started  time.Time          `json:"started"` // when it was asked for
	Refused  string             `json:"refused"`
	// LedgerFormat and BoardFormat are stats.Format and upstream.Format of the sender: a worker may
	// have written anything into the memory itself. Older masters send none.
	LedgerFormat string `json:"ledger_format,omitempty"`
	BoardFormat  string `json:"board_format,omitempty"`
	// ClientsFormat is clients.Table.Format, without which the table is of no use.
	ClientsFormat string `json:"clients_format,omitempty"`
}

// Essence is what a master needs to know of a generation's configuration. Another
// release's services need not be understood: only workers read them, from Raw.
func Essence(c *config.Config) *config.Config {
	e := *c
	e.Raw = nil
	e.Upstreams, e.Listeners = nil, nil
	for i := range c.Upstreams {
		u := &c.Upstreams[i]
		e.Upstreams = append(e.Upstreams, config.Upstream{Name: u.Name, Balance: u.Balance, Servers: u.Servers}) // for status
	}
	for i := range c.Listeners {
		l := c.Listeners[i]
		if l.HTTP != nil {
			l.HTTP = &config.HTTP{AccessLog: l.HTTP.AccessLog, Routes: roots(l.HTTP.Routes)}
		}
		e.Listeners = append(e.Listeners, l)
	}
	return &e
}

// roots are the directories that routes serve files from, to which a worker that replaces another
// is confined, and the files that it is sent.
func roots(routes []config.Route) (kept []config.Route) {
	for _, r := range routes {
		if r.Files != nil {
			kept = append(kept, config.Route{Host: r.Host, Path: r.Path, Files: &config.Files{Root: r.Files.Root}})
		}
		if r.Respond != nil && r.Respond.File != "" {
			kept = append(kept, config.Route{Host: r.Host, Path: r.Path, Respond: &config.Respond{File: r.Respond.File}})
		}
	}
	return kept
}
