package lifecycle

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"reuseportd/internal/config"
	"reuseportd/internal/control"
	"reuseportd/internal/material"
	"reuseportd/internal/wire"
)

// Materials are read whenever a generation is made, and when one of the files has changed. What is good replaces what
// was there in every worker that has it, by a message; a worker that is started later gets the newest good one.

// WantsOf returns the materials that a configuration names, for each of conf.Materials.
func WantsOf(conf *config.Config) (wants []material.Want) {
	for _, m := range conf.Materials() {
		wants = append(wants, material.Want{Kind: material.Kind(m.Kind), Paths: m.Paths})
	}
	return wants
}

// equip reads the materials of the change in progress, and goes on with it.
func (c *Core) equip(conf *config.Config, logs Logs) {
	if len(WantsOf(conf)) == 0 {
		c.wanting = nil
		c.build(conf, logs)
		return
	}
	ch, e := c.change, c.errand("materials", "reading the files that the configuration names")
	await(c, ch, e, func(reads []material.Read, err error) {
		c.wanting = nil
		if err == nil {
			if err = c.accept(conf, reads, ch.action); err != nil {
				c.wanting = conf
			}
		}
		if err != nil {
			logs.Close()
			c.fail(err)
			return
		}
		c.build(conf, logs)
	}, func([]material.Read) { logs.Close() })
	c.do(ReadMaterials{e, conf})
}

// accept takes what was read for a new generation, or returns what is wrong with it, each with its place. For a rollback the
// good contents of before will do. A certificate whose time is over is none to go over to, but one to go on with.
func (c *Core) accept(conf *config.Config, reads []material.Read, action string) error {
	places := conf.Materials()
	var bad []error
	for i := range reads {
		r := &reads[i]
		if r.Stale() && action != "reload" || c.servesStale(r) {
			c.log.Warn().Strs("files", r.Paths).Err(r.Err).Msg("a certificate is served whose time is over")
			r.Err = nil
		}
		if r.Err == nil {
			continue
		}
		if e := c.materials.Find(r.Want); action == "rollback" && e != nil && e.Number > 0 {
			c.noteBad(*r)
			continue
		}
		bad = append(bad, conf.At(places[i].Pos, r.Err))
	}
	if len(bad) > 0 {
		return errors.Join(bad...)
	}
	c.takeIn(reads)
	return nil
}

// servesStale reports whether a certificate whose time is over serves already.
func (c *Core) servesStale(r *material.Read) bool {
	return r.Stale() && c.materials.Has(r.Want, r.Files)
}

// takeIn puts what is good into use.
func (c *Core) takeIn(reads []material.Read) {
	var renewed []string
	for _, r := range reads {
		if r.Kind == material.Tickets {
			c.makeTickets(false)
			continue
		}
		if r.Err != nil {
			continue
		}
		for _, note := range r.Notes {
			if c.materials.Find(r.Want) == nil {
				c.log.Warn().Msg(note)
			}
		}
		before := c.materials.Find(r.Want)
		first, was := before == nil || before.Number == 0, ""
		if before != nil {
			was = before.Bad
		}
		switch changed := c.materials.Put(r.Want, r.Files, c.now); {
		case changed && !first:
			renewed = append(renewed, r.Paths...)
		case !changed && was != "":
			c.log.Info().Strs("files", r.Paths).Msg("a file is good again, with what serves")
		}
	}
	if len(renewed) > 0 {
		c.log.Info().Strs("files", renewed).Msg("materials renewed: new contents serve, without a new generation")
	}
	c.warnOfExpiry()
	c.spread()
}

// tickets are the keys of TLS' tickets, for all listeners.
var tickets = material.Want{Kind: material.Tickets}

// makeTickets makes keys of tickets where there are none, or a new one in front of those that there are.
func (c *Core) makeTickets(rotate bool) {
	var old [][]byte
	if e := c.materials.Find(tickets); e != nil && e.Number > 0 {
		if old = e.Files; !rotate {
			return
		}
	}
	c.materials.Put(tickets, material.NewTickets(old), c.now)
}

// rotateTickets makes a new key when the newest has had its time, by the shortest that a listener gives.
func (c *Core) rotateTickets() {
	conf, e := c.Conf(), c.materials.Find(tickets)
	if conf == nil || e == nil || e.Number == 0 {
		return
	}
	for i := range conf.Listeners {
		if t := conf.Listeners[i].TLS; t != nil && t.Tickets && len(t.TicketKeys) == 0 && c.now.Sub(e.Since) >= t.Rotate {
			c.makeTickets(true)
			c.spread()
			return
		}
	}
}

// Tickets returns the keys of tickets for a next master, with when the newest was made in place of a number; nil if there are
// none.
func (c *Core) Tickets() *material.Set {
	e := c.materials.Find(tickets)
	if e == nil || e.Number == 0 {
		return nil
	}
	return &material.Set{Number: uint64(e.Since.Unix()), Items: []material.Item{{Key: tickets.Key(), Files: e.Files}}}
}

// TicketsBrought gives the core the keys of tickets that an earlier master had, if it has none yet: from that one, or from
// a worker of its, whose word counts if it has what the record says.
type TicketsBrought struct {
	Set *material.Set
	// Recorded is the hash that the record has, "" if they come from a master.
	Recorded string
}

func (t TicketsBrought) handle(c *Core) {
	keys := t.Set.Find(tickets)
	if e := c.materials.Find(tickets); e != nil && e.Number > 0 || !material.IsTickets(keys) {
		return
	}
	since := c.now
	if t.Recorded != "" {
		if material.Sum(keys) != t.Recorded {
			return
		}
	} else if at := time.Unix(int64(t.Set.Number), 0); at.Before(c.now) {
		since = at
	}
	c.materials.Put(tickets, keys, since)
}

// expiresSoon is how long before a certificate's time is over the log says so, once a day.
const expiresSoon = 14 * 24 * time.Hour

// warnOfExpiry tells of certificates whose time is over soon.
func (c *Core) warnOfExpiry() {
	conf := c.Conf()
	if conf == nil || c.now.Sub(c.warnedAt) < 24*time.Hour {
		return
	}
	told := make(map[string]bool) // listeners may have the same
	for _, w := range WantsOf(conf) {
		if e := c.materials.Find(w); e != nil && !told[w.Key()] && !e.Expires.IsZero() && e.Expires.Sub(c.now) < expiresSoon {
			c.warnedAt, told[w.Key()] = c.now, true
			c.log.Warn().Strs("files", w.Paths).Time("expires", e.Expires).Msg("a certificate's time is over soon, or already")
		}
	}
}

// noteBad tells of files that don't serve, once for each reason.
func (c *Core) noteBad(r material.Read) {
	if c.materials.Fail(r.Want, r.Err.Error(), c.now) {
		c.log.Error().Strs("files", r.Paths).Err(r.Err).Msg("a changed file is not used: what was there serves on")
	}
}

// secondLook is how long a bad file has to become good before it is told of: the key that belongs to a certificate may come
// a moment after it.
const secondLook = 2 * time.Second

// materialsChanged is told that one of the files has changed.
func (c *Core) materialsChanged() {
	if c.wanting != nil && c.change == nil {
		c.request(Request{Action: "reload", Cause: "a file that the configuration names has changed"})
		return // which reads all of them
	}
	c.renew(false)
}

// renew reads the materials of the serving configuration again. Bad ones are told of if that is final.
func (c *Core) renew(final bool) {
	g := c.serving()
	if g == nil || c.stop || c.renewing != nil && c.now.Sub(c.renewing.began) < Slow {
		return // or they are looked at again
	}
	e := NewErrand("materials again", "reading files that have changed", c.now)
	c.renewing = e
	e.then = func(value any, err error) {
		if c.renewing != e {
			return // given up
		}
		c.renewing = nil
		reads, _ := value.([]material.Read)
		if err != nil {
			c.log.Error().Err(err).Msg("files that the configuration names can't be read")
			return
		}
		for i := range reads {
			if c.servesStale(&reads[i]) {
				reads[i].Err = nil
			}
		}
		c.takeIn(reads)
		bad := slices.DeleteFunc(reads, func(r material.Read) bool { return r.Err == nil })
		switch {
		case len(bad) == 0:
		case final:
			for _, r := range bad {
				c.noteBad(r)
			}
		default:
			c.do(Later{secondLook, secondGlance{}})
		}
	}
	c.do(ReadMaterials{e, g.conf})
}

// watchMaterials has the files looked at that serve, or would.
func (c *Core) watchMaterials() {
	conf := c.Conf()
	if conf == nil {
		return
	}
	var paths []string
	for _, watched := range []*config.Config{conf, c.wanting} {
		if watched == nil || !conf.Watch {
			continue
		}
		for _, w := range WantsOf(watched) {
			paths = append(paths, w.Paths...)
		}
	}
	slices.Sort(paths)
	c.do(WatchMaterials{slices.Compact(paths)})
	c.forgetMaterials()
}

// forgetMaterials forgets what no generation has that is there, or may come back.
func (c *Core) forgetMaterials() {
	var wants []material.Want
	for _, g := range c.gens {
		wants = append(wants, WantsOf(g.conf)...)
	}
	if c.trial != nil {
		for p := c.trial.prior; p != nil; p = p.proven {
			if p.Conf != nil {
				wants = append(wants, WantsOf(p.Conf)...)
			}
		}
	}
	c.materials.Keep(wants)
}

// materialsOf returns what a worker is started with, nil if its configuration names nothing.
func (c *Core) materialsOf(w *worker) (*material.Set, error) {
	wants := WantsOf(w.gen.conf)
	if len(wants) == 0 {
		return nil, nil
	}
	set, missing := c.materials.Set(wants)
	if len(missing) > 0 {
		return nil, fmt.Errorf("%s was never read", missing[0].Paths[0])
	}
	return &set, nil
}

// spread sends new contents to all workers that have them.
func (c *Core) spread() {
	for _, g := range c.gens {
		set, missing := c.materials.Set(WantsOf(g.conf))
		if len(missing) > 0 {
			continue // of one that was adopted
		}
		for _, w := range g.workers {
			if w.running && set.Number > w.materials {
				w.materials = set.Number
				c.do(SendMaterials{w.id(), &set})
			}
		}
	}
}

// materialsTaken is told what a worker has.
func (c *Core) materialsTaken(w *worker, b wire.MaterialsTaken) {
	if b.Error != "" {
		c.log.Error().Int("worker", w.index).Int("worker_pid", w.pid).Str("error", b.Error).Msg("a worker does not take new contents of files")
		return
	}
	w.hasMaterials = max(w.hasMaterials, min(b.Number, w.materials))
}

// materialsStatus describes what the serving configuration names.
func (c *Core) materialsStatus() (all []control.Material) {
	conf := c.Conf()
	if conf == nil {
		return nil
	}
	seen := make(map[string]bool)
	for _, w := range WantsOf(conf) {
		e := c.materials.Find(w)
		if e == nil || seen[w.Key()] || w.Kind == material.Tickets {
			continue
		}
		seen[w.Key()] = true
		m := control.Material{Kind: string(w.Kind), Files: w.Paths, Number: e.Number, SHA256: e.SHA256, Since: e.Since, Error: e.Bad}
		if !e.Expires.IsZero() {
			at := e.Expires
			m.Expires = &at
		}
		if e.Bad != "" {
			since := e.BadSince
			m.ErrorSince = &since
		}
		for _, k := range c.serving().workers {
			if k.running && k.hasMaterials < e.Number {
				m.Behind++
			}
		}
		all = append(all, m)
	}
	return all
}
