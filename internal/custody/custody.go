// Package custody is the form in which the parts of a service go to a new master: from
// the master before it (an upgrade or a takeover), or from the workers that a killed
// master has left (adoption).
//
// It owns the bodies of wire.KindHello, KindCustody and KindCustodyEnd. It must never act
// on them: that is the master's concern.
//
// Parts come one after another, and End follows the last. A master sends two lots. The
// first, in answer to Hello, is what doesn't change while the next master gets ready:
// sockets, lock, control socket. The second, in answer to Commit, is the workers as they
// are at that moment. Descriptors are duplicates: until the next master says that it is
// ready, the sender gives nothing up. A worker sends one lot, about itself.
package custody

import (
	"time"

	"reuseportd/internal/config"
	"reuseportd/internal/control"
	"reuseportd/internal/eventloop"
	"reuseportd/internal/wire"
)

// Hello is the next master's first message.
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
	FileConfig    = "config"    // the configuration to serve, in place of the file's content
	FileMaterials = "materials" // sealed memfd with a material.Set: a worker's, or contents that are in no file; older masters skip it
	FileLoad      = "load:"     // + ID of a generation: its load.Table; older masters skip it
)

// Shards comes with the descriptors of a group's shards from First on.
type Shards struct {
	Key      string `json:"key"`
	First    int    `json:"first"`
	Total    int    `json:"total"`
	Retiring *int   `json:"retiring,omitempty"` // the first of those that are being retired
	// Unordered says that the kernel's order is another one.
	Unordered bool `json:"unordered,omitempty"`
}

// Generation is a generation that still exists. It comes with a sealed memfd of its
// configuration's bytes.
type Generation struct {
	ID         uint64             `json:"id"`
	State      string             `json:"state"`
	Since      time.Time          `json:"since"`
	Deadline   time.Time          `json:"deadline"`
	Base       eventloop.Counters `json:"base"` // when the drain began
	HandedOver time.Time          `json:"handed_over"`
	Conf       *config.Config     `json:"conf"` // without Raw
}

// Worker comes with its pidfd and, if a master sends it, with its control channel before
// that. (A worker that sends it itself is at the other end of that channel.) A worker in
// back-off has neither.
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
	Sandbox    *control.Sandbox        `json:"sandbox,omitempty"` // sent by a master: what is in force
}

// Lease is a lease that a worker has or is being lent.
type Lease struct {
	wire.Lease
	Acknowledged bool `json:"acknowledged"`
}

// End ends a lot, and carries what belongs to the service as a whole.
type End struct {
	LastID   uint64             `json:"last_id"`
	Seq      uint64             `json:"seq"`
	Receipts []*control.Receipt `json:"receipts"`
	Loaded   time.Time          `json:"loaded"`  // when the serving configuration was loaded
	Action   string             `json:"action"`  // the change: upgrade, takeover or rollback
	Cause    string             `json:"cause"`   // of it
	Started  time.Time          `json:"started"` // when the change was asked for
	Refused  string             `json:"refused"`
	// LedgerFormat and BoardFormat are the sender's stats.Format and upstream.Format. They aren't
	// read from the memory, where a worker may have written anything. Older masters send none.
	LedgerFormat string `json:"ledger_format,omitempty"`
	BoardFormat  string `json:"board_format,omitempty"`
	// ClientsFormat is clients.Table.Format. Without it the table can't be used.
	ClientsFormat string `json:"clients_format,omitempty"`
}

// Essence returns what a master needs of a generation's configuration. It leaves out the
// services, which may be another release's: only workers read them, from Raw.
func Essence(c *config.Config) *config.Config {
	e := *c
	e.Raw = nil
	e.Upstreams, e.Listeners = nil, nil
	for i := range c.Upstreams {
		u := &c.Upstreams[i]
		e.Upstreams = append(e.Upstreams, config.Upstream{Name: u.Name, Balance: u.Balance, Servers: u.Servers, TLS: u.TLS}) // for status and materials
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

// roots returns routes reduced to the directories from which they serve files, to which a
// respawned worker is confined, and the files that it is sent.
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
