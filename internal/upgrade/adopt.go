package upgrade

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"reuseportd/internal/custody"
	"reuseportd/internal/failpoint"
	"reuseportd/internal/record"
	"reuseportd/internal/rundir"
	"reuseportd/internal/stats"
	"reuseportd/internal/wire"
)

// Adoption: the workers of a master that was killed serve on, each with a socket
// in the runtime directory (its rescue) at which it waits for the next master.

// orphanPatience is how long orphans may take to hand themselves over: as long as a
// worker may leave a ping unanswered, and at least this.
const orphanPatience = 3 * time.Second

const (
	rescuePrefix = "worker-"
	rescueSuffix = ".sock"
)

// rescueName is the name of a worker's rescue in the runtime directory.
func rescueName(w *worker) string {
	return fmt.Sprintf("%s%d-%d%s", rescuePrefix, w.gen.id, w.index, rescueSuffix)
}

// makeRescue makes the rescue that a worker is started with. The worker listens
// itself, so that SO_PEERCRED names it.
func (co *coordinator) makeRescue(w *worker) (int, error) {
	return co.dir.Bind(rescueName(w), unix.SOCK_SEQPACKET)
}

// removeRescue removes the rescue of a worker that has ended.
func (co *coordinator) removeRescue(w *worker) {
	_ = co.dir.Remove(rescueName(w))
}

// removeRescues removes those that are left at the end of the service: a next master
// that was ended before it had taken over can't remove its workers'.
func removeRescues(dir *rundir.Dir) {
	names, _ := dir.Names(rescuePrefix, rescueSuffix)
	for _, name := range names {
		_ = dir.Remove(name)
	}
}

// adoptOrphans finds the workers that a killed master has left and takes custody
// of what they have. It returns how many there are. The lock must be held.
//
// What the service consists of is in the record, which that master has written. The
// workers bring descriptors, and each must be what the record says.
func (co *coordinator) adoptOrphans(patience time.Duration) (int, error) {
	rec, err := record.Read(co.dir)
	if err != nil {
		co.log.Error().Err(err).Msg("what an earlier master has written down of its workers can't be used")
	}
	if rec == nil {
		rec = new(record.Record)
	}
	orphans, err := co.greetOrphans(rec)
	if err != nil {
		return 0, err
	}
	cu := holdingsOf(rec)
	deadline := time.Now().Add(max(patience, orphanPatience))
	for _, o := range orphans {
		b := &brought{rec: rec, w: o.worker, shards: make(map[lease]int)}
		err := b.receive(o.ch, time.Until(deadline))
		if err == nil {
			err = cu.add(rec, b, o)
		}
		b.close()
		if err != nil {
			co.endOrphan(o, err)
		}
	}
	co.endSilent(rec, cu)
	if len(cu.workers) == 0 {
		return 0, nil
	}
	if err := failpoint.Hit("adopt-received"); err != nil {
		return 0, err
	}
	found := len(cu.workers)
	return found, co.inherit(cu)
}

// orphan is a recorded worker that has been asked for all that it has.
type orphan struct {
	name   string // of its rescue
	ch     *wire.Conn
	peer   record.Peer
	worker *record.Worker // nil if the process is in no record
}

// greetOrphans says hello at every rescue. Whoever listens there and isn't in the record
// is no worker of this service as far as anybody can know: it may hold shards, so it
// can't be ignored, and may be anybody's, so it can't be believed.
func (co *coordinator) greetOrphans(rec *record.Record) (found []orphan, err error) {
	names, err := co.dir.Names(rescuePrefix, rescueSuffix)
	if err != nil {
		return nil, fmt.Errorf("look for workers that another master has left: %w", err)
	}
	own := make(map[string]bool) // of a generation that gets ready
	for _, p := range co.procs() {
		own[rescueName(p.w)] = true
	}
	var strangers []orphan
	for _, name := range names {
		if own[name] {
			continue
		}
		o, err := greetOrphan(co.dir, name, rec)
		switch {
		case errors.Is(err, unix.ECONNREFUSED), o.peer.PIDFD < 0 && o.ch != nil:
			o.letGo()
			_ = co.dir.Remove(name) // its worker has ended
		case o.ch == nil: // its queue is full: endSilent finds it by the record
			co.log.Error().Err(err).Str("socket", name).Msg("a worker of an earlier master can't be asked")
		case o.worker == nil:
			strangers = append(strangers, o)
		case err != nil:
			co.endOrphan(o, err)
		default:
			found = append(found, o)
		}
	}
	if err := co.turnAway(strangers); err != nil {
		for _, o := range found {
			o.letGo()
		}
		return nil, err
	}
	return found, nil
}

// greetOrphan connects to a rescue, finds out who listens there and says hello.
func greetOrphan(dir *rundir.Dir, name string, rec *record.Record) (orphan, error) {
	o := orphan{name: name, peer: record.Peer{PIDFD: -1}}
	fd, err := dir.Connect(name, unix.SOCK_SEQPACKET)
	if err != nil {
		return o, err
	}
	peer, err := record.PeerOf(fd)
	if err != nil {
		_ = unix.Close(fd)
		return o, err
	}
	o.peer = peer
	if o.ch, err = wire.FromFD(fd); err != nil {
		return o, err
	}
	if o.worker = rec.Find(peer.Process); o.worker == nil {
		return o, nil
	}
	_ = o.ch.SetWriteDeadline(time.Now().Add(time.Second))
	return o, o.ch.Send(wire.KindHello, custody.Hello{PID: os.Getpid()})
}

// strangerPatience is how long those may take to end that were never asked to
// serve, and end by themselves when their master does.
const strangerPatience = time.Second

// turnAway refuses to start beside processes that are not in the record, or ends them, if
// that was asked for.
func (co *coordinator) turnAway(strangers []orphan) error {
	var names []string
	until := time.Now().Add(strangerPatience)
	for _, o := range strangers {
		if !awaitEnd(o.peer.PIDFD, until) {
			names = append(names, fmt.Sprintf("process %d of uid %d (%s) at %s", o.peer.PID, o.peer.UID, commandOf(o.peer.PID), o.name))
			if co.opts.Force {
				_ = unix.PidfdSendSignal(o.peer.PIDFD, unix.SIGKILL, nil, 0)
			}
		}
		if co.opts.Force {
			_ = co.dir.Remove(o.name)
		}
		o.letGo()
	}
	switch {
	case len(names) == 0:
		return nil
	case co.opts.Force:
		co.log.Warn().Str("processes", strings.Join(names, ", ")).Msg("processes that wait for a master and are in no record were ended (--force)")
		return nil
	default:
		return fmt.Errorf("%s: waits for a master, but no master's record (%s) has it: a worker of an older release, "+
			"or somebody who poses as a worker. It may serve clients, so it isn't passed over. "+
			"Look what it is; `run --force` ends it, with its connections, and starts", strings.Join(names, ", "), record.File)
	}
}

// awaitEnd reports whether a process ends in time.
func awaitEnd(pidfd int, until time.Time) bool {
	fds := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(fds, int(max(0, time.Until(until).Milliseconds())))
		if !errors.Is(err, unix.EINTR) {
			return n > 0
		}
	}
}

// commandOf returns a process's command name, for messages.
func commandOf(pid int) string {
	name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	if err != nil {
		return "its name can't be read"
	}
	return strconv.Quote(strings.TrimSuffix(string(name), "\n"))
}

// endSilent ends recorded workers that live and have not handed themselves over: they would
// keep their share of the connections.
func (co *coordinator) endSilent(rec *record.Record, cu *holdings) {
	mine := make(map[int]bool)
	for w := range cu.workers {
		mine[w.pid] = true
	}
	for _, p := range co.procs() {
		mine[p.pid] = true
	}
	for i := range rec.Workers {
		w := &rec.Workers[i]
		if mine[w.Process.PID] {
			continue
		}
		pidfd, err := w.Process.Open()
		if err != nil {
			continue // it has ended
		}
		_ = unix.PidfdSendSignal(pidfd, unix.SIGKILL, nil, 0)
		_ = unix.Close(pidfd)
		co.log.Error().Int("worker_pid", w.Process.PID).Uint64("generation", w.Generation).
			Msg("a worker of an earlier master has not handed itself over, and is ended")
	}
}

func (co *coordinator) endOrphan(o orphan, err error) {
	co.log.Error().Err(err).Str("socket", o.name).Int("worker_pid", o.peer.PID).
		Msg("a worker of an earlier master does not hand itself over as it was recorded; it is ended")
	if o.peer.PIDFD >= 0 {
		_ = unix.PidfdSendSignal(o.peer.PIDFD, unix.SIGKILL, nil, 0)
	}
	o.letGo()
	_ = co.dir.Remove(o.name)
}

// letGo closes what the orphan's descriptors are.
func (o *orphan) letGo() {
	if o.ch != nil {
		_ = o.ch.Close()
	}
	if o.peer.PIDFD >= 0 {
		_ = unix.Close(o.peer.PIDFD)
		o.peer.PIDFD = -1
	}
}

// inherit makes the orphans this master's.
func (co *coordinator) inherit(cu *holdings) error {
	co.core.now = time.Now() // orphans that hang may have taken their time
	if err := co.takeLedger(cu.ledger); err != nil {
		return err
	}
	if err := co.takeBoard(cu.board); err != nil {
		return err
	}
	if co.pred == nil {
		cu.end.Receipts = loadReceipts(co.dir)
	} else {
		cu.end.Receipts = co.pred.cu.end.Receipts
	}
	cu.shards = make(map[string][]int)
	for key, shards := range cu.leased {
		top := 0
		for i := range shards {
			top = max(top, i+1)
		}
		fds := make([]int, top)
		for i := range fds {
			fd, there := shards[i]
			if !there {
				fd = -1 // its worker has died, and the socket with it
			}
			fds[i] = fd
		}
		if co.core.groups[key] == nil {
			cu.shards[key] = fds
			continue
		}
		for _, fd := range fds { // they came from the old master before it died
			if fd >= 0 {
				_ = unix.Close(fd)
			}
		}
	}
	slices.SortFunc(cu.gens, func(a, b *generation) int { return cmp.Compare(a.id, b.id) })
	cu.end.LastID, cu.end.Seq = max(co.core.lastID, cu.end.LastID), max(co.core.seq, cu.end.Seq)+seqGap
	cu.end.Loaded = co.core.now
	if err := co.core.adoptSockets(cu); err != nil {
		return err
	}
	for key := range cu.shards {
		if err := co.core.groups[key].settle(cu.gens, co.core.now); err != nil {
			co.log.Error().Err(err).Str("address", key).Msg("an address keeps something of what an earlier master had begun")
		}
	}
	co.adoptWorkers(cu)
	co.core.settleGenerations(cu.gens)
	co.Record()
	for w := range cu.workers {
		if w.state == draining { // it may not have heard of it
			co.core.drainWorker(w)
		}
	}
	if s := co.core.serving(); s != nil {
		co.core.steer(s)
	}
	co.core.reconcile()
	var pids []string
	for _, p := range co.procs() {
		pids = append(pids, fmt.Sprint(p.pid))
	}
	co.log.Warn().Int("workers", len(pids)).Str("pids", strings.Join(pids, " ")).
		Msg("workers of an earlier master were found and are this one's now")
	return nil
}

// seqGap is more messages than a master sends between two writings of its record: the
// next one's numbers are not those of messages that are still to be acknowledged.
const seqGap = 1 << 20

// takeLedger goes on with the counters of the workers that are adopted.
func (co *coordinator) takeLedger(fd int) error {
	ledger, err := stats.OpenLedger(fd)
	if err != nil {
		return err
	}
	_ = co.core.ledger.Close()
	co.core.ledger = ledger
	return nil
}

// settle goes on with what a killed master had begun with a group: a removal. How
// the others are steered follows the generation that serves.
func (g *group) settle(gens []*generation, now time.Time) error {
	if g.Refused() {
		g.retiring = newRetirement(g, 0, now)
		return nil
	}
	for _, gen := range gens { // the newest that knows it, last
		for i := range gen.conf.Listeners {
			if l := &gen.conf.Listeners[i]; l.Key() == g.Key() {
				if err := g.Update(l); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// settleGenerations ends an activation in whose middle a master was killed: of
// the generations that accept, the newest that has all its workers serves on, and
// the others drain.
func (c *core) settleGenerations(gens []*generation) {
	var accepting []*generation
	var stays *generation
	for _, g := range gens {
		if g.state != serving {
			continue
		}
		accepting = append(accepting, g)
		if stays == nil || len(g.workers) >= g.conf.Workers {
			stays = g
		}
	}
	for _, g := range accepting {
		if g != stays {
			c.drain(g)
		}
	}
}
