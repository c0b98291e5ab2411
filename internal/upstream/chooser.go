package upstream

import (
	"math/rand/v2"
	"net/netip"
	"strings"

	"reuseportd/internal/config"
	"reuseportd/internal/eventloop"
)

// Why is why Pick returned no server.
type Why uint8

const (
	Chosen  Why = iota // it returned one
	AllDown            // all are down or ejected, or names have no address yet
	AllFull            // those that are up have reached max_connections
	AllUsed            // those that are up were tried before
)

// String returns the reason in a few words, the same in logs and status.
func (w Why) String() string {
	return [...]string{"chosen", "no server is up", "all servers are full", "no other server is up"}[w]
}

// Chooser chooses servers of one upstream for one event loop.
type Chooser struct {
	pool *pool
	row  *row // nil if there is no board
	turn int  // where the search begins, so that equal servers take turns

	// The fields below have an element for each server of list.
	list    *list
	weights []int64 // of the servers that can be chosen in this Pick; 0 for the others
	credits []int64 // of smooth weighted round robin
	others  []seen

	seenEvery int64 // see pace
	rng       rand.PCG
	strangers map[string]*Server // servers of handed-over sessions that are on no list
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

// Pick chooses a server for a session (a connection or a request), other than those in
// tried, which may be nil, and counts the session until Done. key is for balance: hash
// (KeyOf, KeyOfAddr). If no server is available Pick returns nil, and Why says why. It
// counts a first attempt without a server as turned away, and a later attempt with one as a
// retry.
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

// tier returns the range of the servers that are tried first (0) or of the backups (1).
func (c *Chooser) tier(i int) (from, to int) {
	if i == 0 {
		return 0, c.list.first
	}
	return c.list.first, len(c.list.servers)
}

// weigh finds out which servers can be chosen, and returns how many.
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
	// Two loops that count themselves at the same time may both find that they exceed the
	// bound; so they try again.
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

// Done ends a session that Pick or Adopt has counted.
func (c *Chooser) Done(s *Server) { s.cell(c.row).Add(^uint32(0)) }

// Succeeded says that the server works: it has answered, or, for a service that doesn't
// see answers, accepted the connection. It resets the count of consecutive failures. A
// service that waits for an answer must not call it before.
func (c *Chooser) Succeeded(s *Server, now int64) { s.succeeded(now) }

// Failed says that an attempt failed, and reports whether that ejected the server. It
// doesn't end the session: Done does.
func (c *Chooser) Failed(s *Server, now int64, r Reason) (ejected bool) { return s.failed(now, r) }

// Adopt counts a session that another loop has handed over, at the server of that Name,
// whatever the bound, and even if the upstream no longer has the server. The other loop calls
// Done when the session is no longer its own. The result is nil if the name is invalid.
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

// Find returns the server of that Name, nil if the upstream doesn't have it. It counts
// nothing: it is for idle connections.
func (c *Chooser) Find(name string) *Server { return c.pool.list.Load().byName[name] }

// stranger returns a server that the upstream doesn't have, but that another worker had.
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
