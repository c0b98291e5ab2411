package upgrade

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"reuseportd/internal/config"
	"reuseportd/internal/custody"
	"reuseportd/internal/record"
	"reuseportd/internal/stats"
)

// inherit makes the orphans this master's.
func (co *coordinator) inherit(a *adoption) error {
	co.core.now = time.Now() // orphans that hang may have taken their time
	cu, vacant, err := a.holdings()
	if err != nil {
		return err
	}
	ledger, err := stats.AdoptLedger(cu.ledger, a.rec.Ledger.Format)
	if err != nil {
		return err
	}
	_ = co.core.ledger.Close()
	co.core.ledger = ledger
	if err := co.takeBoard(cu.board, a.rec.Board.Format); err != nil {
		return err
	}
	if err := co.takeClients(cu.clients, a.rec.Clients.Format); err != nil {
		return err
	}
	cu.end.LastID, cu.end.Seq = max(co.core.lastID, a.rec.LastID), max(co.core.seq, a.rec.Seq)
	cu.end.Loaded, cu.end.Refused = a.rec.Loaded, a.rec.Refused
	if co.pred == nil {
		cu.end.Receipts = loadReceipts(co.dir)
	} else {
		cu.end.Receipts = co.pred.cu.end.Receipts
	}
	if err := co.core.adoptSockets(cu); err != nil {
		return err
	}
	for key := range cu.shards {
		if err := co.core.groups[key].settle(cu.gens, co.core.now); err != nil {
			co.log.Error().Err(err).Str("address", key).Msg("an address keeps something of what an earlier master had begun")
		}
	}
	for _, w := range vacant {
		co.core.account(w, "ended while there was no master")
	}
	co.adoptWorkers(cu)
	for _, g := range cu.gens {
		co.core.drainAgain(g)
	}
	co.core.settleGenerations(cu.gens)
	if s := co.core.serving(); s != nil {
		co.core.steer(s)
	}
	co.core.reconcile()
	var pids []string
	for w := range cu.workers {
		pids = append(pids, fmt.Sprint(w.pid))
	}
	co.log.Warn().Int("workers", len(pids)).Str("pids", strings.Join(pids, " ")).
		Msg("workers of an earlier master were found and are this one's now")
	return nil
}

// drainAgain tells the workers of a draining generation so: the killed master had written
// it down, and may not have come to say it.
func (c *core) drainAgain(g *generation) {
	if g.state != draining {
		return
	}
	for _, w := range g.workers {
		if w.proc != nil {
			c.drainWorker(w)
		}
	}
}

// holdings is what a master before this one would have given: the record, with what the
// orphans have brought. It owns all of that. vacant are the places whose processes have ended.
func (a *adoption) holdings() (cu *holdings, vacant []*worker, err error) {
	cu = newHoldings()
	cu.shards = a.shards()
	for i := range a.rec.Groups {
		g := &a.rec.Groups[i]
		cu.unordered[g.Key] = g.Unordered
	}
	for i := range a.rec.Generations {
		g, empty, err := a.generation(cu, &a.rec.Generations[i])
		if err != nil {
			return nil, nil, err
		}
		if g != nil {
			cu.gens = append(cu.gens, g)
			vacant = append(vacant, empty...)
		}
	}
	return cu, vacant, nil
}

// generation returns one of the record with those of its workers that are adopted, nil if none
// is. In one that serves, the other places wait to be filled, should no newer generation
// come.
func (a *adoption) generation(cu *holdings, rec *record.Generation) (*generation, []*worker, error) {
	adopted := make(map[int]*orphan)
	for _, o := range a.orphans {
		if o.err == nil && o.gen == rec {
			adopted[o.rec.Index] = o
		}
	}
	if len(adopted) == 0 {
		return nil, nil, nil
	}
	conf := new(config.Config)
	if err := json.Unmarshal(rec.Conf, conf); err != nil {
		return nil, nil, fmt.Errorf("read %s: generation %d: %w", record.File, rec.ID, err)
	}
	g := &generation{
		id: rec.ID, state: serving, since: rec.Since, deadline: rec.Deadline, conf: conf,
		base: rec.Base, handedOver: rec.HandedOver,
	}
	if state(rec.State) == draining {
		g.state = draining
	}
	var vacant []*worker
	for i := range rec.Workers {
		rw := &rec.Workers[i]
		if err := checkPlace(conf, rw.Page, rw.Slots); err != nil {
			return nil, nil, fmt.Errorf("read %s: generation %d, worker %d: %w", record.File, rec.ID, rw.Index, err)
		}
		w := &worker{
			gen: g, index: rw.Index, slots: rw.Slots, page: rw.Page, since: rw.Since, restarts: rw.Restarts,
			heirs: make(map[bond]bool),
		}
		o := adopted[rw.Index]
		if o == nil {
			w.enter(backoff, a.co.core.now)
			w.retryAt = a.co.core.now.Add(conf.StartTimeout) // a new generation is on its way
			vacant = append(vacant, w)
		} else {
			a.adopt(cu, w, o)
		}
		if o != nil || g.state == serving {
			g.workers = append(g.workers, w)
		}
	}
	return g, vacant, nil
}

// adopt fills a place with its orphan.
func (a *adoption) adopt(cu *holdings, w *worker, o *orphan) {
	b, g := o.brought, w.gen
	w.pid, w.state = o.rec.PID, g.state
	if err := a.co.vouch(w); err != nil { // for status: it is the one that was recorded
		a.co.log.Warn().Err(err).Int("worker_pid", w.pid).Msg("what is in force for an adopted worker is not as its configuration has it")
	}
	w.leases, w.waiting = b.leases, make(map[uint64][]lease)
	g.conf.Raw, g.conf.SHA256 = b.raw, o.gen.SHA256
	keep := func(at, from *int) {
		if *from >= 0 && *at < 0 {
			*at, *from = *from, -1
		}
	}
	keep(&cu.ledger, &b.ledger)
	keep(&cu.board, &b.board)
	keep(&cu.clients, &b.clients)
	a.co.core.inheritTickets(b.materials, a.rec.Tickets)
	name := fmt.Sprint(custody.FileLoad, g.id)
	if _, known := cu.loads[name]; !known && b.load >= 0 {
		cu.loads[name], b.load = b.load, -1
	}
	b.close() // but for what was taken
	cu.workers[w] = link{ch: o.ch, pidfd: o.pidfd, start: o.rec.Start}
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
			if a.co.core.groups[key] != nil {
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
