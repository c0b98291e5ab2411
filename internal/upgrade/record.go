package upgrade

import (
	"encoding/json"

	"reuseportd/internal/custody"
	"reuseportd/internal/lifecycle"
	"reuseportd/internal/record"
	"reuseportd/internal/stats"
	"reuseportd/internal/upstream"
)

// record describes the service for a master that comes after this one was killed. What
// can't be found out is left out: it isn't adopted then.
func (co *coordinator) record() *record.Record {
	start, _ := record.StartTime(ownPID)
	n := co.core.Numbers()
	r := &record.Record{
		Master: record.Process{PID: ownPID, Start: start}, LastID: n.LastID, Seq: n.Seq, Loaded: n.Loaded, Refused: n.Refused,
		Tickets: co.core.TicketsHash(),
	}
	r.Ledger, _ = record.MemoryOf(co.tables.Ledger.FD(), stats.Format)
	r.Board, _ = record.MemoryOf(co.tables.Board.FD(), upstream.Format)
	r.Clients, _ = record.MemoryOf(co.tables.Clients.FD(), co.tables.Clients.Format())
	for _, s := range co.core.Sockets() {
		cookies, err := s.Cookies()
		if err != nil {
			co.log.Error().Err(err).Msg("an address can't be written down")
			continue
		}
		r.Groups = append(r.Groups, record.Group{Key: s.Key(), Cookies: cookies, Unordered: s.Unordered()})
	}
	for _, g := range co.core.Generations() {
		r.Generations = append(r.Generations, co.recordOf(&g))
	}
	return r
}

func (co *coordinator) recordOf(g *lifecycle.Generation) record.Generation {
	k := co.kept(g.ID)
	if k.essence == nil {
		k.essence, _ = json.Marshal(custody.Essence(g.Conf)) // has been sent to masters ever since
	}
	if k.load == 0 && g.Load != nil {
		k.load = g.Load.ID()
	}
	out := record.Generation{
		ID: g.ID, State: g.State, Since: g.Since, Deadline: g.Deadline, Base: g.Base, HandedOver: g.HandedOver,
		Conf: k.essence, SHA256: g.Conf.SHA256, Load: k.load,
	}
	for _, w := range g.Workers {
		rw := record.Worker{
			Index: w.Index, Slots: w.Slots, Page: w.Page, State: w.State, Since: w.Since, Restarts: w.Restarts,
		}
		if p := co.procs[lifecycle.ID{Generation: g.ID, Index: w.Index}]; p != nil {
			rw.PID, rw.Start = p.pid, p.start
		}
		out.Workers = append(out.Workers, rw)
	}
	return out
}
