package upgrade

import (
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"reuseportd/internal/config"
	"reuseportd/internal/custody"
	"reuseportd/internal/material"
	"reuseportd/internal/record"
	"reuseportd/internal/shard"
	"reuseportd/internal/wire"
)

// brought is what an orphan has given and what equals the record. It may be anybody who
// speaks in the worker's place: nothing that is said is used but for which of the
// recorded shards it accepts from, and each descriptor is one that the record knows, or
// closed.
//
// Invariant: each message adds something that there can be a bounded number of, or fails. So the
// number of messages is bounded, and no more descriptors are kept than the record has.
type brought struct {
	rec *record.Record
	gen *record.Generation
	w   *record.Worker

	ledger, board, clients, load int // -1 when none
	raw                          []byte
	shards                       map[string]map[int]int // by key and index
	leases                       []wire.Lease
	files, said                  map[string]bool
	materials                    *material.Set
}

// maxFiles bounds the names of descriptors in Part.Files; a newer release may have some
// that this one doesn't know.
const maxFiles = 32

func newBrought(rec *record.Record, gen *record.Generation, w *record.Worker) *brought {
	return &brought{
		rec: rec, gen: gen, w: w, ledger: -1, board: -1, clients: -1, load: -1,
		shards: make(map[string]map[int]int),
		files:  make(map[string]bool), said: make(map[string]bool),
	}
}

// take takes one message; the caller closes what is left of it. done says that it was
// the last, and nothing is missing.
func (b *brought) take(m wire.Message) (done bool, err error) {
	switch m.Kind {
	case wire.KindCustody:
		var part custody.Part
		if err := m.Decode(&part); err != nil {
			return false, err
		}
		return false, b.part(part, m)
	case wire.KindCustodyEnd:
		return true, b.complete()
	}
	return false, fmt.Errorf("%s came in between", m.Kind)
}

func (b *brought) part(part custody.Part, m wire.Message) error {
	switch {
	case part.Shards != nil:
		return fmt.Errorf("shards are a master's to give")
	case part.Leased != nil:
		return b.takeLeased(part.Leased, m)
	case part.Generation != nil:
		return b.takeConfig(m)
	case part.Worker != nil: // says nothing that the record doesn't
		return b.once("worker")
	}
	return b.takeFiles(part.Files, m)
}

// once fails the second time that something is said.
func (b *brought) once(what string) error {
	if b.said[what] {
		return fmt.Errorf("a second %s", what)
	}
	b.said[what] = true
	return nil
}

// takeLeased takes shards that it accepts from.
func (b *brought) takeLeased(leased []wire.Lease, m wire.Message) error {
	if len(leased) != len(m.FDs) || len(leased) == 0 {
		return fmt.Errorf("%d leases come with %d descriptors", len(leased), len(m.FDs))
	}
	for i, le := range leased {
		if err := b.takeShard(wire.Lease{Key: le.Key, Index: le.Index, Slot: le.Slot}, m, i); err != nil {
			return err
		}
	}
	return nil
}

func (b *brought) takeShard(le wire.Lease, m wire.Message, i int) error {
	g := b.rec.Group(le.Key)
	if g == nil || le.Index < 0 || le.Index >= len(g.Cookies) || !b.hasSlot(le.Slot) || slices.Contains(b.leases, le) {
		return fmt.Errorf("shard %d of %q in slot %d: there is none, or it comes twice", le.Index, bounded(le.Key), le.Slot)
	}
	cookie, err := shard.Cookie(m.FDs[i])
	if err != nil || cookie != g.Cookies[le.Index] {
		return fmt.Errorf("shard %d of %s: the socket that comes is another one", le.Index, g.Key)
	}
	if !shard.Listens(m.FDs[i]) {
		return fmt.Errorf("shard %d of %s: the socket that comes does not listen any more", le.Index, g.Key)
	}
	b.leases = append(b.leases, le)
	if _, known := b.shards[g.Key][le.Index]; !known { // else another loop of its has it too
		b.keepShard(le, m.Take(i))
	}
	return nil
}

func (b *brought) keepShard(le wire.Lease, fd int) {
	if b.shards[le.Key] == nil {
		b.shards[le.Key] = make(map[int]int)
	}
	b.shards[le.Key][le.Index] = fd
}

func (b *brought) hasSlot(slot int) bool {
	for _, s := range b.w.Slots {
		if s == slot {
			return true
		}
	}
	return false
}

// takeConfig takes the bytes of the configuration, which replacements of its generation's
// workers read.
func (b *brought) takeConfig(m wire.Message) error {
	if err := b.once("configuration"); err != nil {
		return err
	}
	if len(m.FDs) != 1 {
		return fmt.Errorf("a configuration with %d descriptors", len(m.FDs))
	}
	raw, err := wire.ReadMemfd(m.FDs[0])
	if err != nil {
		return err
	}
	if got := config.Hash(raw); got != b.gen.SHA256 {
		return fmt.Errorf("the configuration that comes has the hash %s, want %s", got, b.gen.SHA256)
	}
	b.raw = raw
	return nil
}

func (b *brought) takeFiles(names []string, m wire.Message) error {
	if len(names) != len(m.FDs) || len(names) == 0 {
		return fmt.Errorf("%d files come with %d descriptors", len(names), len(m.FDs))
	}
	for i, name := range names {
		if len(b.files) == maxFiles || b.files[name] {
			return fmt.Errorf("file %q comes twice, or is one too many", bounded(name))
		}
		b.files[name] = true
		fd := m.FDs[i]
		switch name {
		case custody.FileLedger:
			if !b.rec.Ledger.Is(fd) {
				return fmt.Errorf("the memory of counters that comes is another one")
			}
			b.ledger = m.Take(i)
		case custody.FileBoard:
			// One that has kept an older release's is adopted all the same.
			if b.rec.Board.Is(fd) {
				b.board = m.Take(i)
			}
		case custody.FileClients:
			if b.rec.Clients.Is(fd) { // likewise
				b.clients = m.Take(i)
			}
		case custody.FileMaterials:
			set, err := readMaterials(fd)
			if err != nil {
				return err
			}
			b.materials = set
		case fmt.Sprint(custody.FileLoad, b.gen.ID):
			id, err := shard.LoadID(fd)
			if b.gen.Load == 0 || err != nil || id != b.gen.Load {
				return fmt.Errorf("the table of loads that comes is another one")
			}
			b.load = m.Take(i)
		}
	}
	return nil
}

// complete insists on what every worker has.
func (b *brought) complete() error {
	switch {
	case b.ledger < 0:
		return fmt.Errorf("no memory of counters came")
	case b.raw == nil:
		return fmt.Errorf("no configuration came")
	}
	return nil
}

// close lets go of everything.
func (b *brought) close() {
	b.closeFiles()
	for key, shards := range b.shards {
		for _, fd := range shards {
			_ = unix.Close(fd)
		}
		delete(b.shards, key)
	}
}

// closeFiles lets go of everything but the shards.
func (b *brought) closeFiles() {
	for _, fd := range []int{b.ledger, b.board, b.clients, b.load} {
		if fd >= 0 {
			_ = unix.Close(fd)
		}
	}
	b.ledger, b.board, b.clients, b.load = -1, -1, -1, -1
}

// bounded is the beginning of a text, for messages.
func bounded(text string) string { return text[:min(len(text), 200)] }
