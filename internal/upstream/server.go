package upstream

import (
	"reuseportd/internal/config"
	"reuseportd/internal/eventloop"
)

// Server is one address of an upstream. Any number of loops use it at the same time,
// and it stays usable when the upstream no longer has it.
type Server struct {
	// Conf is what the configuration says of it, or of the name that it has its
	// address from.
	Conf *config.Server

	name    string
	address eventloop.Address
	number  int32 // in its upstream, for Tried
}

// Address returns where it is connected to.
func (s *Server) Address() *eventloop.Address { return &s.address }

// Name returns its address as logs and status show it: "10.0.0.1:80", "[::1]:80" or
// "unix:/run/app.sock". An upstream has only one server of a name.
func (s *Server) Name() string { return s.name }

// Host returns what a Host field says of it: the name or address of the configuration,
// "localhost" for a Unix socket.
func (s *Server) Host() string {
	if s.Conf.Network == "unix" {
		return "localhost"
	}
	return s.Conf.Address
}

// AddConnect counts a connection that was established to it.
func (s *Server) AddConnect() {}

// AddBytes counts what came from it and what was sent to it.
func (s *Server) AddBytes(in, out uint64) {}
