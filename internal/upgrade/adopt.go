package upgrade

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"reuseportd/internal/custody"
	"reuseportd/internal/failpoint"
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
func (co *coordinator) adoptOrphans(patience time.Duration) (int, error) {
	names, err := co.dir.Names(rescuePrefix, rescueSuffix)
	if err != nil {
		return 0, fmt.Errorf("look for workers that another master has left: %w", err)
	}
	own := make(map[string]bool) // of a generation that gets ready
	for _, p := range co.procs() {
		own[rescueName(p.w)] = true
	}
	var orphans []orphan
	for _, name := range names {
		if own[name] {
			continue
		}
		o, err := greetOrphan(co.dir, name)
		switch {
		case err == nil:
			orphans = append(orphans, o)
		case errors.Is(err, unix.ECONNREFUSED):
			_ = co.dir.Remove(name) // its worker has ended
		default:
			co.endOrphan(o, err)
		}
	}
	cu := newHoldings()
	found := 0
	deadline := time.Now().Add(max(patience, orphanPatience))
	for _, o := range orphans {
		cu.own = o.ch
		if err := cu.receive(o.ch, time.Until(deadline)); err != nil {
			co.endOrphan(o, err)
			continue
		}
		found++
		co.core.lastID, co.core.seq = max(co.core.lastID, cu.end.LastID), max(co.core.seq, cu.end.Seq)
	}
	if found == 0 {
		return 0, nil
	}
	if err := failpoint.Hit("adopt-received"); err != nil {
		return 0, err
	}
	return found, co.inherit(cu)
}

func (co *coordinator) endOrphan(o orphan, err error) {
	co.log.Error().Err(err).Str("socket", o.name).Int("worker_pid", o.pid).
		Msg("a worker of an earlier master does not hand itself over: it hangs, and is ended")
	o.end()
	_ = co.dir.Remove(o.name)
}

// orphan is a worker that has been asked for all that it has.
type orphan struct {
	name string
	ch   *wire.Conn
	pid  int // of who listens at the rescue; 0 if that is not to be had
}

// greetOrphan connects to a rescue and says hello.
func greetOrphan(dir *rundir.Dir, name string) (orphan, error) {
	fd, err := dir.Connect(name, unix.SOCK_SEQPACKET)
	if err != nil {
		return orphan{}, err
	}
	o := orphan{name: name}
	if cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
		o.pid = int(cred.Pid)
	}
	if o.ch, err = wire.FromFD(fd); err != nil {
		return o, err
	}
	_ = o.ch.SetWriteDeadline(time.Now().Add(time.Second))
	return o, o.ch.Send(wire.KindHello, custody.Hello{PID: os.Getpid()})
}

// end kills an orphan that doesn't answer: it would keep its share of the
// connections.
func (o orphan) end() {
	if o.ch != nil {
		_ = o.ch.Close()
	}
	if o.pid > 0 {
		_ = unix.Kill(o.pid, unix.SIGKILL)
	}
}

// inherit makes the orphans this master's.
func (co *coordinator) inherit(cu *holdings) error {
	co.core.now = time.Now() // orphans that hang may have taken their time
	ledger, err := stats.OpenLedger(cu.ledger)
	if err != nil {
		return err
	}
	_ = co.core.ledger.Close()
	co.core.ledger = ledger
	if err := co.takeBoard(cu.board); err != nil {
		return err
	}
	for _, id := range ledger.Generations() { // also of those whose workers have all died
		co.core.lastID = max(co.core.lastID, id)
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
	slices.SortFunc(cu.gens, func(a, b *generation) int { return int(a.id) - int(b.id) })
	cu.end.LastID, cu.end.Seq = co.core.lastID, co.core.seq
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
