// Package record is what a master writes about its service, for the next master if it is
// killed: everything but descriptors, which only the workers have then.
//
// It owns the form of record.json in the runtime directory, and the identity of a process, a
// piece of memory and a socket. Only the master can write the file, so its content is
// believed; what a process says about itself never is. The package must never use anything
// that a worker says.
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
	// version numbers the meaning of the fields. A field can be added without a new version:
	// an older release skips it.
	version = 1
	// File is the file's name in the runtime directory.
	File = "record.json"
	// maxSize bounds the file, in bytes.
	maxSize = 64 << 20
)

// Record is a service at one moment.
type Record struct {
	Version int       `json:"version"`
	Master  Process   `json:"master"`            // who has written the record; older masters don't say
	LastID  uint64    `json:"last_id"`           // the last ID given to a generation
	Seq     uint64    `json:"seq"`               // the last number given to a message that is acknowledged
	Loaded  time.Time `json:"loaded"`            // when the serving configuration was loaded
	Refused string    `json:"refused,omitempty"` // why the file's current content is not in use
	Ledger  Memory    `json:"ledger"`
	Board   Memory    `json:"board"`
	Clients Memory    `json:"clients"`           // the clients.Table; older masters have none
	Tickets string    `json:"tickets,omitempty"` // SHA-256 of the keys of TLS tickets, hex
	Groups  []Group   `json:"groups"`
	// Generations are those that still exist, oldest first.
	Generations []Generation `json:"generations"`
}

// Process identifies a process.
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
	// Load is the kernel's ID of the table by which it is steered, 0 if it isn't steered by
	// load.
	Load    uint32   `json:"load,omitempty"`
	Workers []Worker `json:"workers"`
}

// Worker is a place in a generation, with its current process.
type Worker struct {
	Index    int       `json:"index"`
	Slots    []int     `json:"slots"`
	Page     int       `json:"page"` // in the ledger, of its first loop
	PID      int       `json:"pid"`  // 0: it has no process
	Start    uint64    `json:"start"`
	State    string    `json:"state"`
	Since    time.Time `json:"since"`
	Restarts int       `json:"restarts"`
}

// Text returns the file's content.
func (r *Record) Text() ([]byte, error) {
	r.Version = version
	return json.Marshal(r)
}

// Write replaces the file by a record's Text, whole or not at all.
func Write(dir *rundir.Dir, text []byte) error { return dir.WriteFile(File, text, 0o600) }

// Load reads the record that a master has left. The error wraps fs.ErrNotExist if there is
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
