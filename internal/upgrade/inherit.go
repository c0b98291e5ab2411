package upgrade

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"reuseportd/internal/config"
	"reuseportd/internal/custody"
	"reuseportd/internal/lifecycle"
	"reuseportd/internal/record"
	"reuseportd/internal/shard"
	"reuseportd/internal/stats"
)

// How what an earlier master had becomes this one's.

// sockets makes groups of the shards that came.
func (cu *holdings) sockets() ([]lifecycle.Sockets, error) {
	var all []lifecycle.Sockets
	for key, fds := range cu.shards {
		made, err := shard.Adopt(key, fds)
		if err != nil {
			return nil, err
		}
		if cu.unordered[key] {
			made.MarkUnordered()
		}
		s := lifecycle.Sockets{Group: made}
		if from, ok := cu.retiring[key]; ok {
			s.Retiring = &from
		}
		all = append(all, s)
	}
	return all, nil
}

// inheritWorkers attends to the processes that came, and makes their generations the oldest ones of the core. Their logs are
// opened by reopenLogs.
func (co *coordinator) inheritWorkers(cu *holdings, e lifecycle.Inherit) {
	for _, g := range cu.gens {
		co.adoptLoad(g, cu)
		e.Generations = append(e.Generations, *g)
		for i := range g.Workers {
			w := &g.Workers[i]
			id := lifecycle.ID{Generation: g.ID, Index: w.Index}
			l, alive := cu.workers[id]
			if !alive {
				continue
			}
			p := newProc(co, id, w.PID, l.start, l.pidfd, l.ch)
			p.conf, p.pprof, p.sandbox = g.Conf, pprofName(g.ID, w.Slots[0]), w.Sandbox
			p.rescue = co.dir.Inode(rescueName(id))
			co.procs[id] = p
		}
	}
	e.Numbers = cu.end
	co.handle(e)
	for id := range cu.workers {
		if p := co.procs[id]; p != nil {
			p.attend()
		}
	}
}

// adoptLoad takes over what steers a generation by load. Without it, the program that
// an earlier master has attached steers on until there is a change.
func (co *coordinator) adoptLoad(g *lifecycle.Generation, cu *holdings) {
	name := fmt.Sprint(custody.FileLoad, g.ID)
	fd, came := cu.loads[name]
	delete(cu.loads, name)
	switch {
	case !lifecycle.SteersByLoad(g.Conf):
		if came {
			_ = unix.Close(fd)
		}
	case !came:
		g.Unsteered = errors.New("the earlier master had no table for eBPF")
	default:
		if g.Load, g.Unsteered = shard.AdoptLoad(fd, g.Conf.Slots()); g.Unsteered != nil {
			co.log.Warn().Err(g.Unsteered).Uint64("generation", g.ID).Msg("an earlier generation can't be steered by load any more")
		}
	}
}

// inherit makes the orphans this master's.
func (co *coordinator) inherit(a *adoption) error {
	cu, err := a.holdings()
	if err != nil {
		return err
	}
	if err := co.inheritTables(a.rec, cu); err != nil {
		return err
	}
	n := co.core.Numbers()
	cu.end = custody.End{LastID: max(n.LastID, a.rec.LastID), Seq: max(n.Seq, a.rec.Seq), Loaded: a.rec.Loaded, Refused: a.rec.Refused}
	if co.pred == nil {
		cu.end.Receipts = loadReceipts(co.dir)
	} else {
		cu.end.Receipts = co.pred.cu.end.Receipts
	}
	sockets, err := cu.sockets()
	if err != nil {
		return err
	}
	co.inheritWorkers(cu, lifecycle.Inherit{Sockets: sockets, Killed: true})
	var pids []string
	for id := range cu.workers {
		if p := co.procs[id]; p != nil {
			pids = append(pids, fmt.Sprint(p.pid))
		}
	}
	co.log.Warn().Int("workers", len(pids)).Str("pids", strings.Join(pids, " ")).
		Msg("workers of an earlier master were found and are this one's now")
	return nil
}

// inheritTables goes on with the memory that the orphans share.
func (co *coordinator) inheritTables(rec *record.Record, cu *holdings) error {
	ledger, err := stats.AdoptLedger(cu.ledger, rec.Ledger.Format)
	if err != nil {
		return err
	}
	_ = co.tables.Ledger.Close()
	co.tables.Ledger = ledger
	if err := co.takeBoard(cu.board, rec.Board.Format); err != nil {
		return err
	}
	if err := co.takeClients(cu.clients, rec.Clients.Format); err != nil {
		return err
	}
	co.handle(co.tables)
	return nil
}

// holdings is what a master before this one would have given: the record, with what the
// orphans have brought. It owns all of that.
func (a *adoption) holdings() (*holdings, error) {
	cu := newHoldings()
	cu.shards = a.shards()
	for i := range a.rec.Groups {
		g := &a.rec.Groups[i]
		cu.unordered[g.Key] = g.Unordered
	}
	for i := range a.rec.Generations {
		g, err := a.generation(cu, &a.rec.Generations[i])
		if err != nil {
			return nil, err
		}
		if g != nil {
			cu.gens = append(cu.gens, g)
		}
	}
	return cu, nil
}

// generation returns one of the record with those of its workers that are adopted, nil if none
// is. In one that serves, the other places wait to be filled, should no newer generation
// come.
func (a *adoption) generation(cu *holdings, rec *record.Generation) (*lifecycle.Generation, error) {
	adopted := make(map[int]*orphan)
	for _, o := range a.orphans {
		if o.err == nil && o.gen == rec {
			adopted[o.rec.Index] = o
		}
	}
	if len(adopted) == 0 {
		return nil, nil
	}
	conf := new(config.Config)
	if err := json.Unmarshal(rec.Conf, conf); err != nil {
		return nil, fmt.Errorf("read %s: generation %d: %w", record.File, rec.ID, err)
	}
	g := &lifecycle.Generation{Generation: custody.Generation{
		ID: rec.ID, State: lifecycle.Adopted(rec.State), Since: rec.Since, Deadline: rec.Deadline, Conf: conf,
		Base: rec.Base, HandedOver: rec.HandedOver,
	}}
	for i := range rec.Workers {
		rw := &rec.Workers[i]
		if err := checkPlace(conf, rw.Page, rw.Slots); err != nil {
			return nil, fmt.Errorf("read %s: generation %d, worker %d: %w", record.File, rec.ID, rw.Index, err)
		}
		w := custody.Worker{
			Generation: rec.ID, Index: rw.Index, Slots: rw.Slots, Page: rw.Page, State: lifecycle.Vacant(),
			Since: rw.Since, Restarts: rw.Restarts,
		}
		o := adopted[rw.Index]
		if o != nil {
			a.adopt(cu, g, &w, o)
		} else {
			g.Vacant = append(g.Vacant, w)
		}
		if o != nil || g.State == lifecycle.Adopted("") {
			g.Workers = append(g.Workers, w)
		}
	}
	return g, nil
}

// adopt fills a place with its orphan.
func (a *adoption) adopt(cu *holdings, g *lifecycle.Generation, w *custody.Worker, o *orphan) {
	b := o.brought
	w.PID, w.State = o.rec.PID, g.State
	var err error
	if w.Sandbox, err = vouch(w.PID, g.Conf.Credential, nil); err != nil { // for status: it is the one that was recorded
		a.co.log.Warn().Err(err).Int("worker_pid", w.PID).Msg("what is in force for an adopted worker is not as its configuration has it")
	}
	for _, le := range b.leases {
		w.Leases = append(w.Leases, custody.Lease{Lease: le, Acknowledged: true})
	}
	g.Conf.Raw, g.Conf.SHA256 = b.raw, o.gen.SHA256
	keep := func(at, from *int) {
		if *from >= 0 && *at < 0 {
			*at, *from = *from, -1
		}
	}
	keep(&cu.ledger, &b.ledger)
	keep(&cu.board, &b.board)
	keep(&cu.clients, &b.clients)
	a.co.handle(lifecycle.TicketsBrought{Set: b.materials, Recorded: a.rec.Tickets})
	name := fmt.Sprint(custody.FileLoad, g.ID)
	if _, known := cu.loads[name]; !known && b.load >= 0 {
		cu.loads[name], b.load = b.load, -1
	}
	b.close() // but for what was taken
	cu.workers[lifecycle.ID{Generation: g.ID, Index: w.Index}] = link{ch: o.ch, pidfd: o.pidfd, start: o.rec.Start}
}

// shards returns those that were brought, or taken from who is ended, by key in slot order. Where there is none in the
// middle, -1 stands for it: its worker has died, and the socket with it.
func (a *adoption) shards() map[string][]int {
	all := make(map[string][]int)
	for _, o := range a.orphans {
		if o.brought == nil {
			continue
		}
		for key, shards := range o.brought.shards {
			if a.co.core.HasAddress(key) {
				continue // they came from the old master before it died
			}
			for i, fd := range shards {
				for len(all[key]) <= i {
					all[key] = append(all[key], -1)
				}
				if all[key][i] < 0 {
					all[key][i] = fd
				} else {
					_ = unix.Close(fd)
				}
			}
			delete(o.brought.shards, key) // the list has them
		}
	}
	return all
}
