package upstream

import (
	"net"
	"sync/atomic"

	"reuseportd/internal/config"
	"reuseportd/internal/eventloop"
)

// Server is one address of an upstream. Any number of loops may use it at the same time.
// It stays usable when the upstream no longer has it.
type Server struct {
	// Conf is its configuration, or that of the name from which it has its address.
	Conf *config.Server

	name    string
	address eventloop.Address
	dial    string // the address as package net takes it
	hash    uint64 // of name, for balance: hash
	number  int32  // in its upstream, for Tried; unique among the current servers

	pool  *pool
	state *entry
	// id is the first word of state when it was attached. If state has another one, this
	// worker was stopped for long, and the entry is another server's.
	id uint64
	usage
}

// Address returns where it is connected to.
func (s *Server) Address() *eventloop.Address { return &s.address }

// Name returns its address as logs and status show it: "10.0.0.1:80", "[::1]:80" or
// "unix:/run/app.sock". An upstream has only one server of a name.
func (s *Server) Name() string { return s.name }

// Host returns the server's value for a Host field: the configured name or address,
// "localhost" for a Unix socket.
func (s *Server) Host() string {
	if s.Conf.Network == "unix" {
		return "localhost"
	}
	return s.Conf.Address
}

// TLSName returns what its certificate must be valid for, if the configuration doesn't say: the host of its
// configured address, "localhost" for a Unix socket.
func (s *Server) TLSName() string {
	if host, _, err := net.SplitHostPort(s.Host()); err == nil {
		return host
	}
	return s.Host()
}

// AddConnect counts a connection that was established to it.
func (s *Server) AddConnect() { s.state.counters.connects.Add(1) }

// AddFailure counts a failure of a session that was already under way. It doesn't affect
// the server's health.
func (s *Server) AddFailure(r Reason) { s.state.counters.failures[r].Add(1) }

// AddBytes counts bytes that came from it and that were sent to it.
func (s *Server) AddBytes(in, out uint64) {
	if in > 0 {
		s.state.counters.bytesIn.Add(in)
	}
	if out > 0 {
		s.state.counters.bytesOut.Add(out)
	}
}

// private gives it private memory.
func (s *Server) private() {
	s.state, s.id = new(entry), 1
	s.state.id.Store(1)
	s.usage = usage{shared: new(atomic.Uint32)}
}

// describe writes its configuration into its entry.
func (s *Server) describe(order uint64, from string) {
	e := s.state
	store(e.name[:], from)
	e.weight.Store(uint64(s.Conf.Weight))
	e.bound.Store(uint64(s.Conf.MaxConnections))
	backup := uint64(0)
	if s.Conf.Backup {
		backup = 1
	}
	e.backup.Store(backup)
	e.order.Store(order)
	e.slowStart.Store(int64(s.pool.conf.SlowStart))
}

// touch keeps its entry, and clears states that its configuration doesn't have.
func (s *Server) touch(now int64) {
	e := s.state
	if e.id.Load() != s.id {
		return
	}
	e.touched.Store(now)
	if s.pool.conf.Check == nil && e.checkDown.Load() != 0 {
		e.checkDown.Store(0)
	}
	if s.pool.conf.MaxFailures == 0 && e.ejectedUntil.Load() != 0 {
		e.ejectedUntil.Store(0)
	}
}
