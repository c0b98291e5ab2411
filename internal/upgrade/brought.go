package upgrade

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"reuseportd/internal/config"
	"reuseportd/internal/custody"
	"reuseportd/internal/record"
	"reuseportd/internal/shard"
	"reuseportd/internal/wire"
)

// brought is what one orphan has brought. Of its words only those are used that say what a
// descriptor is, and each descriptor is compared with the record.
type brought struct {
	rec *record.Record
	w   *record.Worker

	messages int
	ledger   int // descriptors; 0 is none, as no received one is
	board    int
	table    int
	config   []byte
	shards   map[lease]int
}

// maxMessages bounds what an orphan may send before its end.
const maxMessages = 4096

// receive reads up to the end of what the orphan has.
func (b *brought) receive(ch *wire.Conn, timeout time.Duration) error {
	if err := ch.SetReadDeadline(time.Now().Add(timeout)); err != nil {
		return err
	}
	defer ch.ResumeReading()
	for ; b.messages < maxMessages; b.messages++ {
		m, err := ch.Recv()
		if err != nil {
			return fmt.Errorf("take what it has: %w", err)
		}
		if m.Kind == wire.KindCustodyEnd {
			m.Close()
			return b.whole()
		}
		err = b.take(m)
		m.Close()
		if err != nil {
			return fmt.Errorf("take what it has: %w", err)
		}
	}
	return fmt.Errorf("take what it has: no end after %d messages", maxMessages)
}

func (b *brought) take(m wire.Message) error {
	if m.Kind != wire.KindCustody {
		return fmt.Errorf("%s came in between", m.Kind)
	}
	var part custody.Part
	if err := m.Decode(&part); err != nil {
		return err
	}
	switch {
	case part.Leased != nil:
		return b.takeShards(part.Leased, m)
	case part.Generation != nil:
		return b.takeConfig(m)
	case part.Worker != nil:
		return nil // the record says it, and the kernel which process it is
	default:
		return b.takeFiles(part.Files, m)
	}
}

func (b *brought) takeFiles(names []string, m wire.Message) error {
	if len(names) != len(m.FDs) {
		return fmt.Errorf("%d descriptors and %d names", len(m.FDs), len(names))
	}
	for i, name := range names {
		at, want := (*int)(nil), record.Inode{}
		switch {
		case name == custody.FileLedger:
			at, want = &b.ledger, b.rec.Ledger
		case name == custody.FileBoard:
			at, want = &b.board, b.rec.Board
		case strings.HasPrefix(name, custody.FileLoad):
			id, ok := shard.TableID(m.FDs[i])
			if known, recorded := b.rec.Tables[b.w.Generation]; !ok || !recorded || id != known || b.table != 0 {
				continue // it steers on by the program that is attached
			}
			b.table = m.Take(i)
			continue
		default:
			continue // a newer release's
		}
		got, err := record.InodeOf(m.FDs[i])
		if err != nil {
			return err
		}
		if got != want || *at != 0 {
			return fmt.Errorf("its %s is not that of the service", name)
		}
		*at = m.Take(i)
	}
	return nil
}

func (b *brought) takeShards(leases []wire.Lease, m wire.Message) error {
	if len(leases) != len(m.FDs) {
		return fmt.Errorf("%d descriptors for %d shards", len(m.FDs), len(leases))
	}
	for i, le := range leases {
		known := b.rec.Shards[le.Key].Cookies
		if le.Index < 0 || le.Index >= len(known) {
			return fmt.Errorf("it has shard %d of %q, which is not recorded", le.Index, le.Key)
		}
		got, err := record.CookieOf(m.FDs[i])
		if err != nil {
			return fmt.Errorf("shard %d of %q: %w", le.Index, le.Key, err)
		}
		own := false
		for _, s := range b.w.Slots {
			own = own || s == le.Slot
		}
		if _, twice := b.shards[leaseOf(le)]; twice || !own || got != known[le.Index] {
			return fmt.Errorf("what it brings as shard %d of %q for slot %d is another socket, or not its", le.Index, le.Key, le.Slot)
		}
		b.shards[leaseOf(le)] = m.Take(i)
	}
	return nil
}

func (b *brought) takeConfig(m wire.Message) error {
	if len(m.FDs) != 1 || b.config != nil {
		return errors.New("a generation without configuration, or with two")
	}
	raw, err := wire.ReadMemfd(m.FDs[0])
	if err != nil {
		return err
	}
	g := b.rec.Generation(b.w.Generation)
	if g == nil || config.Hash(raw) != g.Conf.SHA256 {
		return fmt.Errorf("its configuration is not that of generation %d", b.w.Generation)
	}
	b.config = raw
	return nil
}

// whole insists on what every worker has.
func (b *brought) whole() error {
	if b.ledger == 0 || b.config == nil {
		return errors.New("it has brought no counters or no configuration")
	}
	return nil
}

// close closes what nobody has taken.
func (b *brought) close() {
	for _, fd := range []int{b.ledger, b.board, b.table} {
		if fd > 0 {
			_ = unix.Close(fd)
		}
	}
	for _, fd := range b.shards {
		_ = unix.Close(fd)
	}
	b.ledger, b.board, b.table, b.shards = 0, 0, 0, nil
}

// holdingsOf is a custody of which everything but the descriptors is recorded.
func holdingsOf(rec *record.Record) *holdings {
	cu := newHoldings()
	cu.end = custody.End{LastID: rec.LastID, Seq: rec.Seq, Refused: rec.Refused}
	for key, s := range rec.Shards {
		cu.unordered[key] = s.Unordered
	}
	return cu
}

// add adds a worker and what it has brought, and takes over its descriptors.
func (cu *holdings) add(rec *record.Record, b *brought, o orphan) error {
	g := cu.generation(rec, b)
	if g == nil {
		return fmt.Errorf("generation %d, which it is of, had not served", b.w.Generation)
	}
	if cu.ledger < 0 {
		cu.ledger, b.ledger = b.ledger, 0
	}
	if cu.board < 0 && b.board != 0 {
		cu.board, b.board = b.board, 0
	}
	name := fmt.Sprint(custody.FileLoad, g.id)
	if _, known := cu.loads[name]; !known && b.table != 0 {
		cu.loads[name], b.table = b.table, 0
	}
	w := &worker{
		gen: g, index: b.w.Index, slots: b.w.Slots, page: b.w.Page, pid: o.peer.PID, started: o.peer.Started,
		state: g.state, since: b.w.Since, restarts: b.w.Restarts,
		leases: make(map[lease]bool), waiting: make(map[uint64][]lease), heirs: make(map[bond]bool),
	}
	for le, fd := range b.shards {
		w.leases[le] = true
		if cu.leased[le.key] == nil {
			cu.leased[le.key] = make(map[int]int)
		}
		if _, known := cu.leased[le.key][le.index]; !known {
			cu.leased[le.key][le.index] = fd
			delete(b.shards, le)
		}
	}
	g.workers = append(g.workers, w)
	cu.workers[w] = link{ch: o.ch, pidfd: o.peer.PIDFD}
	return nil
}

// generation returns the recorded generation of a worker, nil if it had no lease yet, so that
// its workers end by themselves.
func (cu *holdings) generation(rec *record.Record, b *brought) *generation {
	for _, g := range cu.gens {
		if g.id == b.w.Generation {
			return g
		}
	}
	r := rec.Generation(b.w.Generation)
	g := &generation{
		id: r.ID, state: state(r.State), since: r.Since, deadline: r.Deadline, conf: r.Conf,
		base: r.Base, handedOver: r.HandedOver,
	}
	switch g.state {
	case activating:
		g.state = serving
	case serving, draining:
	default:
		return nil
	}
	g.conf.Raw = b.config
	cu.gens = append(cu.gens, g)
	return g
}
