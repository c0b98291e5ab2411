// Package record is what a master writes down of its service, for a master that comes
// after it was killed: everything but descriptors, which only the workers have then.
//
// It owns the form of record.json in the runtime directory, and what makes a process, a
// piece of memory and a socket the one that is meant. The file is its master's alone, so what
// it says is believed; what a process says of itself never is. The package must never
// take anything from a worker.
package record

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"reuseportd/internal/eventloop"
	"reuseportd/internal/rundir"
)

const (
	// version is the meaning of the fields. A later one may be added without another
	// version: an older release skips it.
	version = 1
	// File is the file's in the runtime directory.
	File = "record.json"
	// maxSize bounds it, in bytes.
	maxSize = 64 << 20
)

// Record is a service at one moment.
type Record struct {
	Version int       `json:"version"`
	Master  Process   `json:"master"`            // who has written it; older masters don't say
	LastID  uint64    `json:"last_id"`           // of a generation
	Seq     uint64    `json:"seq"`               // of a message that is acknowledged
	Loaded  time.Time `json:"loaded"`            // when the serving configuration was
	Refused string    `json:"refused,omitempty"` // why the file's present content does not serve
	Ledger  Memory    `json:"ledger"`
	Board   Memory    `json:"board"`
	Clients Memory    `json:"clients"`           // of the clients.Table; older masters have none
	Tickets string    `json:"tickets,omitempty"` // SHA-256 of the keys of TLS' tickets, hex
	Groups  []Group   `json:"groups"`
	// Generations are those that are not gone, oldest first.
	Generations []Generation `json:"generations"`
}

// Process is a process and no other one.
type Process struct {
	PID   int    `json:"pid"`
	Start uint64 `json:"start"` // StartTime
}

// Group is the shards of an address.
type Group struct {
	Key       string   `json:"key"`     // config.Listener.Key
	Cookies   []uint64 `json:"cookies"` // SO_COOKIE by the shard's index
	Unordered bool     `json:"unordered,omitempty"`
}

// Generation is the workers of one configuration.
type Generation struct {
	ID         uint64             `json:"id"`
	State      string             `json:"state"`
	Since      time.Time          `json:"since"`
	Deadline   time.Time          `json:"deadline"` // of the drain
	Base       eventloop.Counters `json:"base"`     // when the drain began
	HandedOver time.Time          `json:"handed_over"`
	Conf       json.RawMessage    `json:"conf"`   // custody.Essence
	SHA256     string             `json:"sha256"` // of the configuration's bytes
	// Load is the kernel's ID of the table that steers it by load, 0 if it has none.
	Load    uint32   `json:"load,omitempty"`
	Workers []Worker `json:"workers"`
}

// Worker is a place in a generation, with the process that fills it.
type Worker struct {
	Index    int       `json:"index"`
	Slots    []int     `json:"slots"`
	Page     int       `json:"page"` // of the ledger: its first loop's
	PID      int       `json:"pid"`  // 0: it has no process
	Start    uint64    `json:"start"`
	State    string    `json:"state"`
	Since    time.Time `json:"since"`
	Restarts int       `json:"restarts"`
}

// Text is the file's content.
func (r *Record) Text() ([]byte, error) {
	r.Version = version
	return json.Marshal(r)
}

// Write puts a record's Text in the place of the one before, whole or not at all.
func Write(dir *rundir.Dir, text []byte) error { return dir.WriteFile(File, text, 0o600) }

// Load returns the record that a master left; the error wraps fs.ErrNotExist when there is
// none.
func Load(dir *rundir.Dir) (*Record, error) {
	text, err := dir.ReadFile(File, maxSize)
	if err != nil {
		return nil, err
	}
	return parse(text)
}

// Missing reports whether an error of Load says that there is no record.
func Missing(err error) bool { return errors.Is(err, fs.ErrNotExist) }

func parse(text []byte) (*Record, error) {
	r := new(Record)
	if err := json.Unmarshal(text, r); err != nil {
		return nil, fmt.Errorf("read %s: %w", File, err)
	}
	if r.Version != version {
		return nil, fmt.Errorf("read %s: its version is %d, this release knows %d", File, r.Version, version)
	}
	if err := r.check(); err != nil {
		return nil, fmt.Errorf("read %s: %w", File, err)
	}
	return r, nil
}

// Remove removes the record at the end of a service.
func Remove(dir *rundir.Dir) error {
	return errors.Join(dir.Remove(File), dir.Remove(File+".new"))
}

// Group returns the group of a key, nil if there is none.
func (r *Record) Group(key string) *Group {
	for i := range r.Groups {
		if r.Groups[i].Key == key {
			return &r.Groups[i]
		}
	}
	return nil
}
