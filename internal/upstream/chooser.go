package upstream

import "reuseportd/internal/config"

// Why is why Pick has no server.
type Why uint8

const (
	Chosen  Why = iota // it has one
	AllDown            // all are down or ejected, or names have no address yet
	AllFull            // those that are up have max_connections
	AllUsed            // those that are up and not full were tried before
)

// String returns it in a few words, the same ones in logs and status.
func (w Why) String() string {
	return [...]string{"chosen", "no server is up", "all servers are full", "no other server is up"}[w]
}

// Chooser chooses servers of one upstream for one event loop.
type Chooser struct {
	conf *config.Upstream
}

// Conf returns the upstream's configuration.
func (c *Chooser) Conf() *config.Upstream { return c.conf }

// Pick chooses a server for a session, a connection or a request, that has been at
// those in tried, nil if at none, and counts it in use until Done. The key is for balance: hash. If
// there is no server it is nil, and Why says why; a first attempt is counted as
// turned away then, and any other that has one as a retry.
func (c *Chooser) Pick(now int64, key uint64, tried *Tried) (*Server, Why) {
	return nil, AllDown
}

// Done ends what Pick or Adopt began.
func (c *Chooser) Done(s *Server) {}

// Succeeded says that the server did what it is there for: it has answered, or, where
// nobody looks at answers, taken the connection. It ends its row of failures.
// A service that waits for answers must not call it before there is one.
func (c *Chooser) Succeeded(s *Server, now int64) {}

// Failed says that an attempt failed, and tells whether that ejected the server. It
// doesn't end the use: Done does.
func (c *Chooser) Failed(s *Server, now int64, r Reason) (ejected bool) { return false }

// Adopt counts a session in use that another loop began and has handed over, at the server
// of that Name, whatever the bound and even if the upstream has it no more. The other
// loop calls Done when the session is no longer its own. The result is nil if the name is none.
func (c *Chooser) Adopt(name string) *Server { return nil }

// Find returns the server of that Name if the upstream has it; nil if not. It counts
// nothing: an idle connection is not in use.
func (c *Chooser) Find(name string) *Server { return nil }
