package upgrade

import (
	"encoding/binary"
	"hash/maphash"
	"maps"
	"slices"

	"reuseportd/internal/custody"
	"reuseportd/internal/record"
)

// Record implements host: it writes down what the service consists of, if that has changed.
// It is called before a process gets what a master that comes after this one's death
// would have to believe of it, and after each event.
//
// Only the master that owns the workers writes. During an upgrade that is the old one up
// to its Goodbye: workers of the next one that it doesn't know have no lease, and end with
// their master.
func (co *coordinator) Record() {
	if !co.owner || co.next != 0 {
		return
	}
	now := co.fingerprint()
	if now == co.recorded {
		return
	}
	r, err := co.record()
	if err == nil {
		err = record.Write(co.dir, r)
	}
	if err != nil {
		if !co.unrecorded {
			co.log.Error().Err(err).Msg("the service can't be written down: if this master is killed now, the next one takes no worker over without --force")
		}
		co.unrecorded = true
		return
	}
	if co.unrecorded {
		co.log.Info().Msg("the service is written down again")
	}
	co.recorded, co.unrecorded = now, false
}

// fingerprint is a hash of all that changes in the record but for the number of the latest
// message.
func (co *coordinator) fingerprint() uint64 {
	c := co.core
	var h maphash.Hash
	h.SetSeed(recordSeed)
	num := func(ns ...uint64) {
		for _, n := range ns {
			var b [8]byte
			binary.NativeEndian.PutUint64(b[:], n)
			_, _ = h.Write(b[:])
		}
	}
	text := func(s string) { num(uint64(len(s))); _, _ = h.WriteString(s) }
	num(c.lastID, uint64(c.ledger.FD()), uint64(c.board.FD()))
	text(c.refused)
	for _, g := range c.gens {
		num(g.id, uint64(g.deadline.UnixNano()), uint64(g.handedOver.UnixNano()))
		text(string(g.state))
		for _, w := range g.workers {
			num(uint64(w.index), uint64(w.pid), w.started, uint64(w.restarts))
		}
	}
	for _, key := range slices.Sorted(maps.Keys(c.groups)) {
		text(key)
		g := c.groups[key]
		for i := range g.Len() {
			cookie, _ := record.CookieOf(g.FD(i))
			num(cookie)
		}
		if g.Unordered() {
			num(1)
		}
	}
	return h.Sum64()
}

var recordSeed = maphash.MakeSeed()

// record describes the service as it is.
func (co *coordinator) record() (*record.Record, error) {
	c := co.core
	r := &record.Record{
		LastID: c.lastID, Seq: c.seq, Loaded: c.loaded, Refused: c.refused,
		Tables: make(map[uint64]uint32), Shards: make(map[string]record.Shards),
	}
	var err error
	if r.Ledger, err = record.InodeOf(c.ledger.FD()); err != nil {
		return nil, err
	}
	if r.Board, err = record.InodeOf(c.board.FD()); err != nil {
		return nil, err
	}
	for key, g := range c.groups {
		s := record.Shards{Unordered: g.Unordered()}
		for i := range g.Len() {
			cookie, err := record.CookieOf(g.FD(i))
			if err != nil {
				return nil, err
			}
			s.Cookies = append(s.Cookies, cookie)
		}
		r.Shards[key] = s
	}
	for _, g := range c.gens {
		r.Generations = append(r.Generations, custody.Generation{
			ID: g.id, State: string(g.state), Since: g.since, Deadline: g.deadline,
			Base: g.base, HandedOver: g.handedOver, Conf: custody.Essence(g.conf),
		})
		if g.load != nil {
			if id, ok := g.load.ID(); ok {
				r.Tables[g.id] = id
			}
		}
		for _, w := range g.workers {
			if w.pid == 0 {
				continue
			}
			r.Workers = append(r.Workers, record.Worker{
				Generation: g.id, Index: w.index, Slots: w.slots, Page: w.page,
				Process: record.Process{PID: w.pid, Started: w.started},
				State:   string(w.state), Since: w.since, Restarts: w.restarts,
			})
		}
	}
	return r, nil
}
