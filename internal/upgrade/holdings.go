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
	"reuseportd/internal/custody"
	"reuseportd/internal/lifecycle"
	"reuseportd/internal/material"
	"reuseportd/internal/record"
	"reuseportd/internal/stats"
	"reuseportd/internal/wire"
)

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
	gens          []*lifecycle.Generation
	workers       map[lifecycle.ID]link
	unordered     map[string]bool
	loads         map[string]int // load.Tables, by custody.FileLoad and generation
	end           custody.End
}

func newHoldings() *holdings {
	return &holdings{
		lock: -1, control: -1, ledger: -1, board: -1, clients: -1,
		shards: make(map[string][]int), retiring: make(map[string]int),
		workers:   make(map[lifecycle.ID]link),
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
		return cu.takeShards(part.Shards, m)
	case part.Generation != nil:
		return cu.takeGeneration(part.Generation, m)
	case part.Worker != nil:
		return cu.takeWorker(part.Worker, m)
	}
	return cu.takeFiles(part.Files, m)
}

func (cu *holdings) takeShards(s *custody.Shards, m wire.Message) error {
	if len(cu.shards[s.Key]) != s.First {
		return fmt.Errorf("shards of %s are out of order", s.Key)
	}
	for i := range m.FDs {
		cu.shards[s.Key] = append(cu.shards[s.Key], m.Take(i))
	}
	cu.unordered[s.Key] = s.Unordered
	if s.Retiring != nil {
		cu.retiring[s.Key] = *s.Retiring
	}
	return nil
}

func (cu *holdings) takeGeneration(g *custody.Generation, m wire.Message) error {
	if cu.generation(g.ID) != nil {
		return fmt.Errorf("generation %d comes twice", g.ID)
	}
	if g.Conf == nil || len(m.FDs) != 1 {
		return errors.New("a generation without configuration")
	}
	raw, err := wire.ReadMemfd(m.FDs[0])
	if err != nil {
		return err
	}
	g.Conf.Raw = raw
	cu.gens = append(cu.gens, &lifecycle.Generation{Generation: *g})
	return nil
}

// generation returns one that came, or nil.
func (cu *holdings) generation(id uint64) *lifecycle.Generation {
	for _, g := range cu.gens {
		if g.ID == id {
			return g
		}
	}
	return nil
}

func (cu *holdings) takeFiles(names []string, m wire.Message) error {
	if len(names) != len(m.FDs) {
		return fmt.Errorf("%d files come with %d descriptors", len(names), len(m.FDs))
	}
	for i, name := range names {
		if err := cu.takeFile(name, m, i); err != nil {
			return err
		}
	}
	return nil
}

// takeFile files the descriptor i; of a kind that this release doesn't know it is let go of.
func (cu *holdings) takeFile(name string, m wire.Message, i int) (err error) {
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
		cu.materials, err = readMaterials(m.FDs[i])
	case custody.FileImage:
		cu.image = os.NewFile(uintptr(m.Take(i)), custody.FileImage)
	case custody.FileConfig:
		cu.config, err = wire.ReadMemfd(m.FDs[i])
	default:
		if _, known := cu.loads[name]; !known && strings.HasPrefix(name, custody.FileLoad) {
			cu.loads[name] = m.Take(i)
		}
	}
	return err
}

// readMaterials reads a set that another process has sealed.
func readMaterials(fd int) (*material.Set, error) {
	raw, err := wire.ReadMemfd(fd)
	if err != nil {
		return nil, err
	}
	return material.Decode(raw)
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
	g := cu.generation(b.Generation)
	if g == nil {
		return fmt.Errorf("worker %d belongs to generation %d, which did not come", b.Index, b.Generation)
	}
	id := lifecycle.ID{Generation: b.Generation, Index: b.Index}
	fail := func(err error) error {
		return fmt.Errorf("worker %d of generation %d: %w", id.Index, id.Generation, err)
	}
	want := 2
	if lifecycle.Backoff(b) {
		want = 0
	}
	if len(m.FDs) != want {
		return fail(fmt.Errorf("it comes with %d descriptors", len(m.FDs)))
	}
	if slices.ContainsFunc(g.Workers, func(w custody.Worker) bool { return w.Index == b.Index }) {
		return fail(errors.New("it comes twice"))
	}
	if err := checkPlace(g.Conf, b.Page, b.Slots); err != nil {
		return fail(err)
	}
	if want == 0 {
		g.Workers = append(g.Workers, *b)
		return nil
	}
	l := link{pidfd: m.Take(1)}
	var err error
	if l.ch, err = wire.FromFD(m.Take(0)); err != nil {
		l.close()
		return fail(err)
	}
	if l.start, err = record.StartTime(b.PID); err != nil || record.Ended(l.pidfd, 0) {
		l.start = 0 // dead by now: the PID may be another's
	}
	g.Workers = append(g.Workers, *b)
	cu.workers[id] = l
	return nil
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
