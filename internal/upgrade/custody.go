package upgrade

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"reuseportd/internal/config"
	"reuseportd/internal/control"
	"reuseportd/internal/custody"
	"reuseportd/internal/material"
	"reuseportd/internal/record"
	"reuseportd/internal/shard"
	"reuseportd/internal/stats"
	"reuseportd/internal/upstream"
	"reuseportd/internal/wire"
)

// sendSockets sends the first part.
func (co *coordinator) sendSockets(ch *wire.Conn, back *prior) error {
	listener, err := control.Dup(co.listener)
	if err != nil {
		return err
	}
	defer unix.Close(listener)
	names := []string{custody.FileLock, custody.FileControl, custody.FileLedger, custody.FileBoard, custody.FileClients}
	fds := []int{co.lock.FD(), listener, co.core.ledger.FD(), co.core.board.FD(), co.core.clients.FD()}
	if image, err := os.Open("/proc/self/exe"); err == nil {
		defer image.Close()
		names, fds = append(names, custody.FileImage), append(fds, int(image.Fd()))
	}
	if fd, err := co.core.sealTickets(); err != nil {
		return err
	} else if fd >= 0 {
		defer unix.Close(fd)
		names, fds = append(names, custody.FileMaterials), append(fds, fd)
	}
	if back != nil {
		memfd, err := wire.Memfd("reuseportd-config", back.conf.Raw)
		if err != nil {
			return err
		}
		defer unix.Close(memfd)
		names, fds = append(names, custody.FileConfig), append(fds, memfd)
	}
	if err = ch.Send(wire.KindCustody, custody.Part{Files: names}, fds...); err != nil {
		return err
	}
	for key, g := range co.core.groups {
		for first := 0; first < g.Len(); first += wire.MaxFDs {
			part := &custody.Shards{Key: key, First: first, Total: g.Len(), Unordered: g.Unordered()}
			if g.retiring != nil {
				part.Retiring = &g.retiring.from
			}
			fds := g.FDs()[first:min(first+wire.MaxFDs, g.Len())]
			if err := ch.Send(wire.KindCustody, custody.Part{Shards: part}, fds...); err != nil {
				return err
			}
		}
	}
	return ch.Send(wire.KindCustodyEnd, co.core.numbers())
}

func (c *core) numbers() custody.End {
	end := custody.End{
		LastID: c.lastID, Seq: c.seq, Receipts: c.receipts, Refused: c.refused, Loaded: c.loaded,
		LedgerFormat: stats.Format, BoardFormat: upstream.Format,
		ClientsFormat: c.clients.Format(),
	}
	if c.change != nil {
		end.Action, end.Cause, end.Started = c.change.action, c.change.cause, c.change.started
	}
	return end
}

// sendWorkers sends the second part. Nobody may be reading from the workers.
func (co *coordinator) sendWorkers(ch *wire.Conn) error {
	for _, g := range co.core.gens {
		if err := sendGeneration(ch, g); err != nil {
			return err
		}
		for _, w := range g.workers {
			p, alive := w.proc.(*proc)
			if !alive && w.state != backoff {
				continue
			}
			if err := sendWorker(ch, w, p); err != nil {
				return err
			}
		}
	}
	return ch.Send(wire.KindCustodyEnd, co.core.numbers())
}

func sendGeneration(ch *wire.Conn, g *generation) error {
	raw, err := wire.Memfd("reuseportd-config", g.conf.Raw)
	if err != nil {
		return err
	}
	defer unix.Close(raw)
	err = ch.Send(wire.KindCustody, custody.Part{Generation: &custody.Generation{
		ID: g.id, State: string(g.state), Since: g.since, Deadline: g.deadline, Conf: custody.Essence(g.conf),
		Base: g.base, HandedOver: g.handedOver,
	}}, raw)
	if err != nil || g.load == nil {
		return err
	}
	return ch.Send(wire.KindCustody, custody.Part{Files: []string{fmt.Sprint(custody.FileLoad, g.id)}}, g.load.FD())
}

func sendWorker(ch *wire.Conn, w *worker, p *proc) error {
	var fds []int
	if p != nil { // else it is in back-off
		channel, err := p.ch.Dup()
		if err != nil {
			return err
		}
		defer unix.Close(channel)
		fds = []int{channel, p.pidfd}
	}
	part := &custody.Worker{
		Generation: w.gen.id, Index: w.index, Slots: w.slots, PID: w.pid, Page: w.page,
		State: string(w.state), Since: w.since, Restarts: w.restarts, Sandbox: w.kept,
		Waiting: make(map[uint64][]wire.Lease),
	}
	for le, acked := range w.leases {
		part.Leases = append(part.Leases, custody.Lease{Lease: le.wire(), Acknowledged: acked})
	}
	for seq, les := range w.waiting {
		for _, le := range les {
			part.Waiting[seq] = append(part.Waiting[seq], le.wire())
		}
	}
	return ch.Send(wire.KindCustody, custody.Part{Worker: part}, fds...)
}

func (le lease) wire() wire.Lease { return wire.Lease{Key: le.key, Index: le.index, Slot: le.slot} }

func leaseOf(le wire.Lease) lease { return lease{le.Key, le.Index, le.Slot} }

// link is the way to a worker's process.
type link struct {
	ch    *wire.Conn
	pidfd int
	start uint64
}

func (l link) close() {
	if l.ch != nil {
		_ = l.ch.Close()
	}
	_ = unix.Close(l.pidfd)
}

// holdings is what arrived of a custody.
type holdings struct {
	lock, control int      // descriptors, -1 when none
	ledger, board int      // likewise
	clients       int      // likewise
	image         *os.File // nil when none
	materials     *material.Set
	config        []byte // nil when it is the file's content that counts
	shards        map[string][]int
	retiring      map[string]int
	gens          []*generation
	workers       map[*worker]link
	unordered     map[string]bool
	loads         map[string]int // load.Tables, by custody.FileLoad and generation
	end           custody.End
}

func newHoldings() *holdings {
	return &holdings{
		lock: -1, control: -1, ledger: -1, board: -1, clients: -1,
		shards: make(map[string][]int), retiring: make(map[string]int),
		workers:   make(map[*worker]link),
		unordered: make(map[string]bool), loads: make(map[string]int),
	}
}

// receive takes one part, up to its CustodyEnd.
func (cu *holdings) receive(ch *wire.Conn, timeout time.Duration) error {
	if err := ch.SetReadDeadline(time.Now().Add(timeout)); err != nil {
		return err
	}
	defer ch.ResumeReading()
	for {
		m, err := ch.Recv()
		if err != nil {
			return fmt.Errorf("take custody: %w", err)
		}
		switch m.Kind {
		case wire.KindCustody:
			var part custody.Part
			if err = m.Decode(&part); err == nil {
				err = cu.take(part, m)
			}
			m.Close()
			if err != nil {
				return fmt.Errorf("take custody: %w", err)
			}
		case wire.KindCustodyEnd:
			if err := m.Decode(&cu.end); err != nil {
				return err
			}
			if cu.end.LastID > record.MaxNumber || cu.end.Seq > record.MaxNumber {
				return fmt.Errorf("take custody: last_id %d, seq %d: more than there can be", cu.end.LastID, cu.end.Seq)
			}
			return nil
		case wire.KindFailed:
			var b wire.Failed
			if err := m.Decode(&b); err != nil {
				return err
			}
			return fmt.Errorf("take custody: %s", b.Error)
		default:
			m.Close()
			return fmt.Errorf("take custody: %s came in between", m.Kind)
		}
	}
}

// take files one message's descriptors.
func (cu *holdings) take(part custody.Part, m wire.Message) error {
	switch {
	case part.Shards != nil:
		if len(cu.shards[part.Shards.Key]) != part.Shards.First {
			return fmt.Errorf("shards of %s are out of order", part.Shards.Key)
		}
		for i := range m.FDs {
			cu.shards[part.Shards.Key] = append(cu.shards[part.Shards.Key], m.Take(i))
		}
		cu.unordered[part.Shards.Key] = part.Shards.Unordered
		if part.Shards.Retiring != nil {
			cu.retiring[part.Shards.Key] = *part.Shards.Retiring
		}
	case part.Generation != nil:
		g := part.Generation
		for _, known := range cu.gens {
			if known.id == g.ID {
				return fmt.Errorf("generation %d comes twice", g.ID)
			}
		}
		if g.Conf == nil || len(m.FDs) != 1 {
			return errors.New("a generation without configuration")
		}
		raw, err := wire.ReadMemfd(m.FDs[0])
		if err != nil {
			return err
		}
		g.Conf.Raw = raw
		cu.gens = append(cu.gens, &generation{
			id: g.ID, state: state(g.State), since: g.Since, deadline: g.Deadline, conf: g.Conf,
			base: g.Base, handedOver: g.HandedOver,
		})
	case part.Worker != nil:
		return cu.takeWorker(part.Worker, m)
	default:
		if len(part.Files) != len(m.FDs) {
			return fmt.Errorf("%d files come with %d descriptors", len(part.Files), len(m.FDs))
		}
		for i, name := range part.Files {
			switch name {
			case custody.FileLock:
				cu.lock = m.Take(i)
			case custody.FileControl:
				cu.control = m.Take(i)
			case custody.FileLedger:
				cu.ledger = m.Take(i)
			case custody.FileBoard:
				cu.board = m.Take(i)
			case custody.FileClients:
				cu.clients = m.Take(i)
			case custody.FileMaterials:
				set, err := readMaterials(m.FDs[i])
				if err != nil {
					return err
				}
				cu.materials = set
			case custody.FileImage:
				cu.image = os.NewFile(uintptr(m.Take(i)), custody.FileImage)
			case custody.FileConfig:
				raw, err := wire.ReadMemfd(m.FDs[i])
				if err != nil {
					return err
				}
				cu.config = raw
			default:
				if _, known := cu.loads[name]; !known && strings.HasPrefix(name, custody.FileLoad) {
					cu.loads[name] = m.Take(i)
				}
			}
		}
	}
	return nil
}

// checkPlace insists that a worker's slots are the configuration's and its pages the
// ledger's.
func checkPlace(conf *config.Config, page int, slots []int) error {
	if err := record.CheckPages(page, slots); err != nil {
		return err
	}
	if most := slices.Max(slots); conf.Workers > stats.MaxPages || conf.Threads > stats.MaxPages || most >= conf.Slots() {
		return fmt.Errorf("slot %d, and its configuration has %d workers with %d loops", most, conf.Workers, conf.Threads)
	}
	return nil
}

func (cu *holdings) takeWorker(b *custody.Worker, m wire.Message) error {
	want := 2
	if state(b.State) == backoff {
		want = 0
	}
	if len(m.FDs) != want {
		return fmt.Errorf("worker %d of generation %d comes with %d descriptors", b.Index, b.Generation, len(m.FDs))
	}
	for _, g := range cu.gens {
		if g.id != b.Generation {
			continue
		}
		if err := checkPlace(g.conf, b.Page, b.Slots); err != nil {
			return fmt.Errorf("worker %d of generation %d: %w", b.Index, b.Generation, err)
		}
		w := &worker{
			gen: g, index: b.Index, slots: b.Slots, page: b.Page, pid: b.PID, state: state(b.State), since: b.Since,
			restarts: b.Restarts, kept: b.Sandbox, leases: make(map[lease]bool), waiting: make(map[uint64][]lease),
			heirs: make(map[bond]bool),
		}
		for _, le := range b.Leases {
			w.leases[leaseOf(le.Lease)] = le.Acknowledged
		}
		for seq, les := range b.Waiting {
			for _, le := range les {
				w.waiting[seq] = append(w.waiting[seq], leaseOf(le))
			}
		}
		g.workers = append(g.workers, w)
		if want == 0 {
			w.pid, w.retryAt = 0, b.Since
			return nil
		}
		l := link{pidfd: m.Take(1)}
		var err error
		if l.ch, err = wire.FromFD(m.Take(0)); err != nil {
			l.close()
			return fmt.Errorf("worker %d of generation %d: %w", b.Index, b.Generation, err)
		}
		if l.start, err = record.StartTime(w.pid); err != nil || record.Ended(l.pidfd, 0) {
			l.start = 0 // dead by now: the PID may be another's
		}
		cu.workers[w] = l
		return nil
	}
	return fmt.Errorf("worker %d belongs to generation %d, which did not come", b.Index, b.Generation)
}

// dropWorkers lets go of the workers that arrived: they must see that their master
// is gone.
func (cu *holdings) dropWorkers() {
	for _, l := range cu.workers {
		l.close()
	}
	clear(cu.workers)
	for _, fd := range cu.loads {
		_ = unix.Close(fd)
	}
	clear(cu.loads)
	cu.gens = nil
}

// adoptSockets makes the received shards the core's groups.
func (c *core) adoptSockets(cu *holdings) error {
	for key, fds := range cu.shards {
		made, err := shard.Adopt(key, fds)
		if err != nil {
			return err
		}
		g := c.addGroup(made)
		if cu.unordered[key] {
			g.MarkUnordered()
		}
		if from, ok := cu.retiring[key]; ok { // around which the earlier master steers
			g.retiring = newRetirement(g, from, c.now)
		}
	}
	c.lastID, c.seq, c.receipts = cu.end.LastID, cu.end.Seq, cu.end.Receipts
	return nil
}

// adoptWorkers makes the received generations the oldest ones of the core. Their logs are
// opened by reopenLogs.
func (co *coordinator) adoptWorkers(cu *holdings) {
	for w, l := range cu.workers {
		p := newProc(co, w, w.pid, l.start, l.pidfd, l.ch)
		p.rescue = co.dir.Inode(rescueName(w))
		w.proc, w.pongAt = p, co.core.now
		p.attend()
	}
	co.core.lastID, co.core.seq = max(co.core.lastID, cu.end.LastID), max(co.core.seq, cu.end.Seq)
	co.core.refused = cu.end.Refused
	co.core.receipts, co.core.loaded = cu.end.Receipts, cu.end.Loaded
	for _, g := range cu.gens {
		g.receipt = co.core.replaced(g.id)
		co.adoptLoad(g, cu)
	}
	co.core.gens = append(cu.gens, co.core.gens...)
	co.core.keeper = true
	co.core.forgetGone()
	co.core.sweep()
}

// adoptLoad takes over what steers a generation by load. Without it, the program that
// an earlier master has attached steers on until there is a change.
func (co *coordinator) adoptLoad(g *generation, cu *holdings) {
	name := fmt.Sprint(custody.FileLoad, g.id)
	fd, came := cu.loads[name]
	delete(cu.loads, name)
	switch {
	case !slices.ContainsFunc(g.conf.Listeners, func(l config.Listener) bool { return steersByLoad(&l) }):
		if came {
			_ = unix.Close(fd)
		}
	case !came:
		g.unsteered = errors.New("the earlier master had no table for eBPF")
	default:
		if g.load, g.unsteered = shard.AdoptLoad(fd, g.conf.Slots()); g.unsteered != nil {
			co.log.Warn().Err(g.unsteered).Uint64("generation", g.id).Msg("an earlier generation can't be steered by load any more")
		}
	}
}
