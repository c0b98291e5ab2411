package upgrade

import (
	"encoding/json"
	"maps"
	"slices"

	"reuseportd/internal/custody"
	"reuseportd/internal/record"
	"reuseportd/internal/stats"
	"reuseportd/internal/upstream"
)

// record describes the service for a master that comes after this one was killed. What
// can't be found out is left out: it isn't adopted then.
func (c *core) record() *record.Record {
	start, _ := record.StartTime(c.pid) // its own
	r := &record.Record{Master: record.Process{PID: c.pid, Start: start}, LastID: c.lastID, Seq: c.seq, Loaded: c.loaded, Refused: c.refused}
	r.Ledger, _ = record.MemoryOf(c.ledger.FD(), stats.Format)
	r.Board, _ = record.MemoryOf(c.board.FD(), upstream.Format)
	r.Clients, _ = record.MemoryOf(c.clients.FD(), c.clients.Format())
	if e := c.materials.Find(tickets); e != nil && e.Number > 0 {
		r.Tickets = e.SHA256
	}
	for _, key := range slices.Sorted(maps.Keys(c.groups)) {
		g := c.groups[key]
		cookies, err := g.Cookies()
		if err != nil {
			c.log.Error().Err(err).Msg("an address can't be written down")
			continue
		}
		r.Groups = append(r.Groups, record.Group{Key: key, Cookies: cookies, Unordered: g.Unordered()})
	}
	for _, g := range c.gens {
		r.Generations = append(r.Generations, g.record())
	}
	return r
}

func (g *generation) record() record.Generation {
	if g.essence == nil {
		g.essence, _ = json.Marshal(custody.Essence(g.conf)) // has been sent to masters ever since
	}
	if g.load != nil && g.loadID == 0 {
		g.loadID = g.load.ID()
	}
	out := record.Generation{
		ID: g.id, State: string(g.state), Since: g.since, Deadline: g.deadline, Base: g.base, HandedOver: g.handedOver,
		Conf: g.essence, SHA256: g.conf.SHA256, Load: g.loadID,
	}
	for _, w := range g.workers {
		rw := record.Worker{
			Index: w.index, Slots: w.slots, Page: w.page, State: string(w.state), Since: w.since, Restarts: w.restarts,
		}
		if p, ok := w.proc.(*proc); ok {
			rw.PID, rw.Start = p.pid, p.start
		}
		out.Workers = append(out.Workers, rw)
	}
	return out
}
