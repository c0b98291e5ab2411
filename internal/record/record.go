// Package record is what a master writes down of its service, so that the next one, if it is
// killed, need not believe what the workers say of themselves.
//
// It owns the file's form and the kernel's names for things: a process by PID and start
// time, memory by inode, a socket by cookie. Where workers run as another user than the master, only the
// master's user can write the file. It must never be made from a worker's words.
package record

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"reuseportd/internal/custody"
	"reuseportd/internal/rundir"
)

// File is the record's name in the runtime directory.
const File = "record.json"

const (
	format = 1
	// maxSize bounds the file, in bytes: a thousand workers with large configurations.
	maxSize = 32 << 20
)

// Record is a service's processes, memory and sockets.
type Record struct {
	Format      int                  `json:"format"`
	LastID      uint64               `json:"last_id"` // of a generation
	Seq         uint64               `json:"seq"`     // of a message; it may be a little behind
	Loaded      time.Time            `json:"loaded"`
	Refused     string               `json:"refused,omitempty"`
	Ledger      Inode                `json:"ledger"`
	Board       Inode                `json:"board"`
	Tables      map[uint64]uint32    `json:"tables,omitempty"` // by generation: IDs of eBPF maps
	Shards      map[string]Shards    `json:"shards"`           // by config.Listener.Key
	Generations []custody.Generation `json:"generations"`      // with configurations, but for their bytes
	Workers     []Worker             `json:"workers"`
}

// Shards are the sockets of an address, by index.
type Shards struct {
	Cookies   []uint64 `json:"cookies"`
	Unordered bool     `json:"unordered,omitempty"` // the kernel's order is another one
}

// Worker is a worker process.
type Worker struct {
	Generation uint64    `json:"generation"`
	Index      int       `json:"index"`
	Slots      []int     `json:"slots"`
	Page       int       `json:"page"` // of the ledger
	Process    Process   `json:"process"`
	State      string    `json:"state"`
	Since      time.Time `json:"since"`
	Restarts   int       `json:"restarts"`
}

// Write puts the record in the place of the one before. It must be there before what is new
// in it can have a client.
func Write(dir *rundir.Dir, r *Record) error {
	r.Format = format
	text, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("record of the service: %w", err)
	}
	if err := dir.WriteFile(File, text, 0o600); err != nil {
		return fmt.Errorf("record of the service: %w", err)
	}
	return nil
}

// Read returns the record that an earlier master has left, nil if there is none.
func Read(dir *rundir.Dir) (*Record, error) {
	text, err := dir.ReadFile(File, maxSize)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("record of the service: %w", err)
	}
	var r Record
	if err := json.Unmarshal(text, &r); err != nil {
		return nil, fmt.Errorf("record of the service: %w", err)
	}
	if r.Format != format {
		return nil, fmt.Errorf("record of the service: it has format %d, and this release reads %d", r.Format, format)
	}
	for i := range r.Generations {
		if r.Generations[i].Conf == nil {
			return nil, fmt.Errorf("record of the service: generation %d has no configuration", r.Generations[i].ID)
		}
	}
	return &r, nil
}

// Find returns the worker that a process is, nil if it is none.
func (r *Record) Find(p Process) *Worker {
	for i := range r.Workers {
		if w := &r.Workers[i]; w.Process == p && p.PID > 0 {
			return w
		}
	}
	return nil
}

// Generation returns a generation by its ID, nil if it is not in the record.
func (r *Record) Generation(id uint64) *custody.Generation {
	for i := range r.Generations {
		if g := &r.Generations[i]; g.ID == id {
			return g
		}
	}
	return nil
}
