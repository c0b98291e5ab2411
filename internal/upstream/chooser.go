package upstream

import (
	"math/rand/v2"
	"net/netip"
	"strings"

	"reuseportd/internal/config"
	"reuseportd/internal/eventloop"
)

// Why is why Pick has no server.
type Why uint8

const (
	Chosen  Why = iota // it has one
	AllDown            // all are down or ejected, or names have no address yet
	AllFull            // those that are up have max_connections
	AllUsed            // those that are up were tried before
)

// String returns it in a few words, the same ones in logs and status.
func (w Why) String() string {
	return [...]string{"chosen", "no server is up", "all servers are full", "no other server is up"}[w]
}

// Chooser chooses servers of one upstream for one event loop.
type Chooser struct {
	pool *pool
	row  *row // nil if there is no board
	turn int  // where ties begin

	// What follows has a place for each server of list.
	list    *list
	weights []int64 // of those that can be chosen in this Pick, 0 of others
	credits []int64 // of smooth weighted round robin
	others  []seen

	seenEvery int64 // see pace
	rng       rand.PCG
	strangers map[string]*Server // handed over, of servers that are on no list
}

// seen is how many sessions the other loops had at a server.
type seen struct {
	at  int64
	use uint64
}

func newChooser(p *pool, r *row, number int) *Chooser {
	c := &Chooser{pool: p, row: r, turn: number, strangers: make(map[string]*Server)}
	c.rng.Seed(rand.Uint64(), rand.Uint64())
	c.renew()
	c.stagger(number)
	return c
}

// Conf returns the upstream's configuration.
func (c *Chooser) Conf() *config.Upstream { return c.pool.conf }

// Pick chooses a server for a session, a connection or a request, that has been at those in
// tried, nil if at none, and counts it in use until Done. The key is for balance: hash
// (KeyOf, KeyOfAddr). If there is no server it is nil, and Why says why; a first
// attempt is counted as turned away then, and any other that has one as a retry.
func (c *Chooser) Pick(now int64, key uint64, tried *Tried) (*Server, Why) {
	if c.list != c.pool.list.Load() {
		c.renew()
	}
	if c.turn%1024 == 0 {
		c.pace()
	}
	why := AllDown
	for tier := range 2 {
		from, to := c.tier(tier)
		candidates := c.weigh(now, from, to, tried, &why)
		for ; candidates > 0; candidates-- {
			i := c.best(now, key, from, to)
			s := c.list.servers[i]
			if !s.take(c.row) {
				c.weights[i], why = 0, AllFull
				continue
			}
			c.charge(i, from, to)
			c.count(s, tried)
			return s, Chosen
		}
	}
	if tried == nil || tried.empty() {
		c.pool.state.counters.turnedAway.Add(1)
	}
	return nil, why
}

// tier returns the places of the servers that are asked first, and of the backups.
func (c *Chooser) tier(i int) (from, to int) {
	if i == 0 {
		return 0, c.list.first
	}
	return c.list.first, len(c.list.servers)
}

// weigh finds out which servers can be chosen, and tells how many.
func (c *Chooser) weigh(now int64, from, to int, tried *Tried, why *Why) (candidates int) {
	for i := from; i < to; i++ {
		s := c.list.servers[i]
		w := s.weightAt(now)
		if w > 0 && tried != nil && tried.Has(s) {
			w = 0
			if *why == AllDown {
				*why = AllUsed
			}
		}
		if c.weights[i] = w; w > 0 {
			candidates++
		}
	}
	return candidates
}

// take counts a session at the server, if its bound allows.
func (s *Server) take(mine *row) bool {
	cell, most := s.cell(mine), uint64(s.Conf.MaxConnections)
	// Two that count themselves at the same time may both find that they are too
	// many; so they look again.
	for range 4 {
		if most > 0 && s.sum() >= most {
			break
		}
		cell.Add(1)
		if s.state.id.Load() != s.id {
			cell.Add(^uint32(0))
			return false // see sweep
		}
		if most == 0 || s.sum() <= most {
			return true
		}
		cell.Add(^uint32(0))
	}
	s.state.counters.full.Add(1)
	return false
}

func (c *Chooser) count(s *Server, tried *Tried) {
	s.state.counters.sessions.Add(1)
	if tried == nil || tried.empty() {
		c.pool.state.counters.sessions.Add(1)
		return
	}
	c.pool.state.counters.retries.Add(1)
	for _, last := range c.list.servers {
		if last.number == tried.last {
			last.state.counters.retries.Add(1)
			return
		}
	}
}

// Done ends what Pick or Adopt began.
func (c *Chooser) Done(s *Server) { s.cell(c.row).Add(^uint32(0)) }

// Succeeded says that the server did what it is there for: it has answered, or, where
// nobody looks at answers, taken the connection. It ends its row of failures.
// A service that waits for answers must not call it before there is one.
func (c *Chooser) Succeeded(s *Server, now int64) { s.succeeded(now) }

// Failed says that an attempt failed, and tells whether that ejected the server. It
// doesn't end the use: Done does.
func (c *Chooser) Failed(s *Server, now int64, r Reason) (ejected bool) { return s.failed(now, r) }

// Adopt counts a session in use that another loop began and has handed over, at the server
// of that Name, whatever the bound and even if the upstream has it no more. The other
// loop calls Done when the session is no longer its own. The result is nil if the name is none.
func (c *Chooser) Adopt(name string) *Server {
	s := c.Find(name)
	if s == nil {
		s = c.stranger(name)
	}
	if s != nil {
		s.cell(c.row).Add(1)
	}
	return s
}

// Find returns the server of that Name if the upstream has it; nil if not. It counts
// nothing: an idle connection is not in use.
func (c *Chooser) Find(name string) *Server { return c.pool.list.Load().byName[name] }

// stranger returns a server that the upstream doesn't have, but another worker had.
func (c *Chooser) stranger(name string) *Server {
	if s := c.strangers[name]; s != nil && s.state.id.Load() == s.id {
		return s
	}
	conf := &config.Server{Network: "tcp", Address: name, Weight: 1}
	s := &Server{Conf: conf, name: name, dial: name, pool: c.pool}
	if path, ok := strings.CutPrefix(name, "unix:"); ok {
		conf.Network, conf.Address, s.dial = "unix", path, path
		a, err := eventloop.UnixAddress(path)
		if err != nil {
			return nil
		}
		s.address = a
	} else {
		a, err := netip.ParseAddrPort(name)
		if err != nil {
			return nil
		}
		s.address = eventloop.AddressOf(netip.AddrPortFrom(a.Addr().WithZone(""), a.Port()))
	}
	c.pool.lodge(s)
	c.strangers[name] = s
	return s
}
