package upgrade

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"reuseportd/internal/config"
	"reuseportd/internal/control"
	"reuseportd/internal/eventloop"
	"reuseportd/internal/shard"
	"reuseportd/internal/stats"
	"reuseportd/internal/wire"
)

// The custody messages: what one master owns, in the form in which another takes
// it over. They travel in two parts. The first, in answer to Hello, is what
// doesn't change while the next master gets ready: sockets, lock, control
// socket. The second, in answer to Commit, is the workers as they are at that
// moment. CustodyEnd ends each part. Descriptors are duplicates: until the next
// master says that it is ready, nothing has been given up.

// hello is the next master's first word.
type hello struct {
	PID     int    `json:"pid"`
	Version string `json:"version"`
}

// custodyPart is the body of wire.KindCustody. Exactly one field is set.
type custodyPart struct {
	Files      []string           `json:"files,omitempty"` // with one descriptor each
	Shards     *custodyShards     `json:"shards,omitempty"`
	Generation *custodyGeneration `json:"generation,omitempty"`
	Worker     *custodyWorker     `json:"worker,omitempty"`
}

// Names of the descriptors in custodyPart.Files.
const (
	fileLock    = "lock"
	fileControl = "control"
)

// custodyShards comes with the descriptors of a group's shards from First on.
type custodyShards struct {
	Key      string `json:"key"`
	First    int    `json:"first"`
	Total    int    `json:"total"`
	Retiring *int   `json:"retiring,omitempty"` // the first of those that go
}

// custodyGeneration is a generation that is not gone.
type custodyGeneration struct {
	ID       uint64         `json:"id"`
	State    state          `json:"state"`
	Since    time.Time      `json:"since"`
	Deadline time.Time      `json:"deadline"`
	Conf     *config.Config `json:"conf"` // but for Raw, which comes as a sealed memfd
}

// custodyWorker comes with three descriptors: control channel, pidfd, counters.
type custodyWorker struct {
	Generation uint64                  `json:"generation"`
	Index      int                     `json:"index"`
	Slots      []int                   `json:"slots"`
	PID        int                     `json:"pid"`
	State      state                   `json:"state"`
	Since      time.Time               `json:"since"`
	Restarts   int                     `json:"restarts"`
	Leases     []custodyLease          `json:"leases"`
	Waiting    map[uint64][]wire.Lease `json:"waiting"`
}

type custodyLease struct {
	wire.Lease
	Acknowledged bool `json:"acknowledged"`
}

// custodyEnd ends a part and carries the numbers that go on.
type custodyEnd struct {
	LastID uint64             `json:"last_id"`
	Seq    uint64             `json:"seq"`
	Past   eventloop.Counters `json:"past"`
	Last   *control.Receipt   `json:"last"`
	Loaded time.Time          `json:"loaded"` // when the serving configuration was
	Cause  string             `json:"cause"`  // of the upgrade
}

// sendSockets sends the first part.
func (co *coordinator) sendSockets(ch *wire.Conn) error {
	listener, err := control.Dup(co.listener)
	if err != nil {
		return err
	}
	defer unix.Close(listener)
	err = ch.Send(wire.KindCustody, custodyPart{Files: []string{fileLock, fileControl}}, co.lock.FD(), listener)
	if err != nil {
		return err
	}
	for key, g := range co.core.groups {
		for first := 0; first < g.Len(); first += wire.MaxFDs {
			part := &custodyShards{Key: key, First: first, Total: g.Len()}
			if g.retiring != nil {
				part.Retiring = &g.retiring.from
			}
			fds := g.FDs()[first:min(first+wire.MaxFDs, g.Len())]
			if err := ch.Send(wire.KindCustody, custodyPart{Shards: part}, fds...); err != nil {
				return err
			}
		}
	}
	return ch.Send(wire.KindCustodyEnd, co.core.numbers())
}

func (c *core) numbers() custodyEnd {
	end := custodyEnd{LastID: c.lastID, Seq: c.seq, Past: c.past, Last: c.last, Loaded: c.loaded}
	if c.change != nil {
		end.Cause = c.change.cause
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
			if p, ok := w.proc.(*proc); ok {
				if err := sendWorker(ch, w, p); err != nil {
					return err
				}
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
	return ch.Send(wire.KindCustody, custodyPart{Generation: &custodyGeneration{
		ID: g.id, State: g.state, Since: g.since, Deadline: g.deadline, Conf: essence(g.conf),
	}}, raw)
}

func sendWorker(ch *wire.Conn, w *worker, p *proc) error {
	channel, err := p.ch.Dup()
	if err != nil {
		return err
	}
	defer unix.Close(channel)
	part := &custodyWorker{
		Generation: w.gen.id, Index: w.index, Slots: w.slots, PID: w.pid,
		State: w.state, Since: w.since, Restarts: w.restarts,
		Waiting: make(map[uint64][]wire.Lease),
	}
	for le, acked := range w.leases {
		part.Leases = append(part.Leases, custodyLease{le.wire(), acked})
	}
	for seq, les := range w.waiting {
		for _, le := range les {
			part.Waiting[seq] = append(part.Waiting[seq], le.wire())
		}
	}
	return ch.Send(wire.KindCustody, custodyPart{Worker: part}, channel, p.pidfd, w.region.FD())
}

func (le lease) wire() wire.Lease { return wire.Lease{Key: le.key, Index: le.index, Slot: le.slot} }

func leaseOf(le wire.Lease) lease { return lease{le.Key, le.Index, le.Slot} }

// essence is what a master needs to know of a generation's configuration. Another
// release's services need not be understood: only workers read them, from Raw.
func essence(c *config.Config) *config.Config {
	e := *c
	e.Raw = nil
	e.Listeners = nil
	for i := range c.Listeners {
		l := c.Listeners[i]
		if l.HTTP != nil {
			l.HTTP = &config.HTTP{AccessLog: l.HTTP.AccessLog}
		}
		e.Listeners = append(e.Listeners, l)
	}
	return &e
}

// custody is what arrived.
type custody struct {
	lock, control int // descriptors, -1 when none
	shards        map[string][]int
	retiring      map[string]int
	gens          []*generation
	workers       map[*worker][3]int // channel, pidfd, counters
	end           custodyEnd
}

func newCustody() *custody {
	return &custody{
		lock: -1, control: -1,
		shards: make(map[string][]int), retiring: make(map[string]int),
		workers: make(map[*worker][3]int),
	}
}

// receive takes one part, up to its CustodyEnd.
func (cu *custody) receive(ch *wire.Conn, timeout time.Duration) error {
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
			var part custodyPart
			if err = m.Decode(&part); err == nil {
				err = cu.take(part, m)
			}
			m.Close()
			if err != nil {
				return fmt.Errorf("take custody: %w", err)
			}
		case wire.KindCustodyEnd:
			return m.Decode(&cu.end)
		default:
			m.Close()
			return fmt.Errorf("take custody: %s came in between", m.Kind)
		}
	}
}

// take files one message's descriptors.
func (cu *custody) take(part custodyPart, m wire.Message) error {
	switch {
	case part.Shards != nil:
		if len(cu.shards[part.Shards.Key]) != part.Shards.First {
			return fmt.Errorf("shards of %s are out of order", part.Shards.Key)
		}
		for i := range m.FDs {
			cu.shards[part.Shards.Key] = append(cu.shards[part.Shards.Key], m.Take(i))
		}
		if part.Shards.Retiring != nil {
			cu.retiring[part.Shards.Key] = *part.Shards.Retiring
		}
	case part.Generation != nil:
		g := part.Generation
		if g.Conf == nil || len(m.FDs) != 1 {
			return errors.New("a generation without configuration")
		}
		raw, err := wire.ReadMemfd(m.FDs[0])
		if err != nil {
			return err
		}
		g.Conf.Raw = raw
		cu.gens = append(cu.gens, &generation{
			id: g.ID, state: g.State, since: g.Since, deadline: g.Deadline, conf: g.Conf,
		})
	case part.Worker != nil:
		return cu.takeWorker(part.Worker, m)
	default:
		for i, name := range part.Files {
			switch name {
			case fileLock:
				cu.lock = m.Take(i)
			case fileControl:
				cu.control = m.Take(i)
			}
		}
	}
	return nil
}

func (cu *custody) takeWorker(b *custodyWorker, m wire.Message) error {
	if len(m.FDs) != 3 || len(b.Slots) == 0 {
		return fmt.Errorf("worker %d of generation %d comes with %d descriptors and %d slots",
			b.Index, b.Generation, len(m.FDs), len(b.Slots))
	}
	for _, g := range cu.gens {
		if g.id != b.Generation {
			continue
		}
		w := &worker{
			gen: g, index: b.Index, slots: b.Slots, pid: b.PID, state: b.State, since: b.Since,
			restarts: b.Restarts, leases: make(map[lease]bool), waiting: make(map[uint64][]lease),
			heirs: make(map[int]bool),
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
		cu.workers[w] = [3]int{m.Take(0), m.Take(1), m.Take(2)}
		return nil
	}
	return fmt.Errorf("worker %d belongs to generation %d, which did not come", b.Index, b.Generation)
}

// adoptSockets makes the received shards the core's groups.
func (c *core) adoptSockets(cu *custody) error {
	for key, fds := range cu.shards {
		made, err := shard.Adopt(key, fds)
		if err != nil {
			return err
		}
		g := &group{Group: made}
		c.groups[key] = g
		if from, ok := cu.retiring[key]; ok {
			if from > 0 {
				if err := g.Steer(from); err != nil {
					return err
				}
			}
			g.retiring = newRetirement(g, from, c.now)
		}
	}
	c.lastID, c.seq, c.past, c.last = cu.end.LastID, cu.end.Seq, cu.end.Past, cu.end.Last
	return nil
}

// adoptWorkers makes the received generations the oldest ones of the core.
func (co *coordinator) adoptWorkers(cu *custody) {
	for w, fds := range cu.workers {
		region, err := stats.Open(fds[2])
		if err != nil {
			co.log.Error().Err(err).Int("worker_pid", w.pid).Msg("the counters of a worker can't be read on")
			region = nil
		}
		ch, err := wire.FromFD(fds[0])
		if err != nil {
			co.log.Error().Err(err).Int("worker_pid", w.pid).Msg("a worker can't be taken over; it serves on unmanaged")
			w.state = gone
			_ = unix.Close(fds[1])
			continue
		}
		p := &proc{co: co, w: w, pid: w.pid, pidfd: fds[1], ch: ch}
		w.region, w.proc, w.pongAt = region, p, co.core.now
		p.attend()
	}
	for _, g := range cu.gens {
		lf, err := openLogs(g.conf)
		if err != nil {
			co.log.Error().Err(err).Msg("logs of an earlier generation can't be reopened")
		}
		g.files = lf
	}
	co.core.gens = append(cu.gens, co.core.gens...)
	co.core.lastID, co.core.seq = max(co.core.lastID, cu.end.LastID), max(co.core.seq, cu.end.Seq)
	co.core.past, co.core.loaded = cu.end.Past, cu.end.Loaded
	co.core.forgetGone()
}
