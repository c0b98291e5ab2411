package lifecycle

import (
	"maps"
	"slices"

	"reuseportd/internal/config"
	"reuseportd/internal/control"
	"reuseportd/internal/eventloop"
	"reuseportd/internal/sockdiag"
)

// Status describes the service as it is now.
func (c *Core) Status() *control.Status {
	st := &control.Status{
		Version: c.version, PID: c.pid, Started: c.started,
		NoFile: c.nofile,
	}
	for _, g := range c.gens {
		if g.receipt != nil {
			c.count(g, g.receipt)
		}
	}
	for _, r := range c.receipts {
		r := *r // which goes on counting while its generation drains
		st.Receipts, st.LastChange = append(st.Receipts, &r), &r
	}
	if c.change != nil {
		st.Change, st.Progress = c.change.action, c.change.progress
		if e := c.change.errand; e != nil {
			st.Progress = e.String()
		}
	}
	st.Config.Error = c.refused
	for _, g := range c.gens {
		if g.state == serving {
			st.Generation = g.id
			st.Config.Path, st.Config.SHA256, st.Config.Loaded = g.conf.Path, g.conf.SHA256, c.loaded
		}
		st.Groups = append(st.Groups, c.generationStatus(g))
	}
	st.Materials = c.materialsStatus()
	st.Totals = totals(c.ledger.Total())
	table := sockdiag.Listening()
	for _, key := range slices.Sorted(maps.Keys(c.groups)) {
		st.Listeners = append(st.Listeners, c.listenerStatus(key, table))
	}
	st.Listeners = append(st.Listeners, c.lostListeners()...)
	st.Upstreams = c.upstreams()
	return st
}

func (c *Core) generationStatus(g *generation) control.Generation {
	out := control.Generation{
		ID: g.id, State: string(g.state), Since: g.since, ConfigSHA256: g.conf.SHA256,
	}
	if g.state == activating {
		out.State = string(ready)
	}
	if g.state == draining {
		deadline := g.deadline
		out.Deadline = &deadline
	}
	for _, w := range g.workers {
		if w.state == gone {
			continue
		}
		counts := c.counters(w)
		cw := control.Worker{
			PID: w.pid, Slot: w.slots[0], Slots: len(w.slots), State: string(w.state),
			Since: w.since, Restarts: w.restarts, LastError: w.lastErr,
			Connections: counts.Open, Upstream: counts.UpstreamOpen, Totals: totals(counts), CPUs: cpus(g.conf, w.slots),
			MaxMemory: w.maxMemory(),
			Sandbox:   w.kept,
		}
		if w.opening != nil {
			cw.State = string(starting)
		} else if w.state == backoff {
			at := w.retryAt
			cw.RetryAt = &at
		}
		out.Workers = append(out.Workers, cw)
	}
	return out
}

func (c *Core) listenerStatus(key string, t *sockdiag.Table) control.Listener {
	g := c.groups[key]
	out := control.Listener{Shards: g.Listening()}
	if home := c.home(key); home != nil {
		for i := range home.conf.Listeners {
			if l := &home.conf.Listeners[i]; l.Key() == key {
				out.Network, out.Address = l.Network, l.Address
				out.Service, out.Accept, out.TLS = l.Service(), string(l.Accept), l.TLS != nil
				if home.state == serving {
					out.Name = l.Name
				}
			}
		}
	}
	if out.Accept == string(config.AcceptReuseport) {
		out.Steering = string(g.Policy())
		if g.why != nil {
			out.SteeringNote = g.why.Error()
		}
	}
	if g.Listening() > 0 && !g.Refused() {
		out.Share, out.Others = g.Share(), g.others(t)
	}
	if g.retiring != nil {
		out.Retiring = g.Listening() - g.retiring.from
	}
	for i := range g.Listening() {
		if n, err := g.QueueLen(i); err == nil {
			out.Queued += n
		}
	}
	return out
}

// cpus returns the CPUs that the loops of some slots are pinned to, each once.
func cpus(conf *config.Config, slots []int) []int {
	var out []int
	for _, s := range slots {
		if cpu := conf.CPU(s); cpu >= 0 && !slices.Contains(out, cpu) {
			out = append(out, cpu)
		}
	}
	return out
}

func totals(c eventloop.Counters) control.Totals {
	return control.Totals{
		Accepted: c.Accepted, Requests: c.Requests, BytesIn: c.BytesIn, BytesOut: c.BytesOut,
		HandedOver: c.HandedOver, TakenOver: c.TakenOver, Finished: c.Finished, Cut: c.Cut,
		AcceptPaused: c.AcceptPaused, AcceptNoFD: c.AcceptNoFD, AcceptErrors: c.AcceptErrors,
		Panics: c.Panics, LogDropped: c.LogDropped,
		UpstreamIn: c.UpstreamIn, UpstreamOut: c.UpstreamOut, UpstreamKept: c.UpstreamKept,
		IdleClosed: c.IdleClosed, NoRoom: c.NoRoom, Stayed: c.Stayed, Quiet: c.Quiet, Slow: c.Slow,
		AcceptEmpty: c.AcceptEmpty, Wakeups: c.Wakeups, WakeupsVain: c.WakeupsVain,
		ShedHeads: c.ShedHeads, ShedBodies: c.ShedBodies, ShedIdle: c.ShedIdle,
		ClientRefused: c.ClientRefused, ClientUncounted: c.ClientUncounted,
		Handshakes: c.Handshakes, Resumed: c.Resumed, ShakesFailed: c.ShakesFailed, ShakesWaited: c.ShakesWaited,
	}
}
