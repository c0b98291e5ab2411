package upstream

import "math/bits"

// Tried is the set of servers that a session has tried, so that the next attempt goes to
// another one. It is exact for upstreams of up to 256 servers. Its zero value is empty.
type Tried struct {
	set  [4]uint64 // by Server.number modulo 256
	last int32     // the number of the server that was added last
}

// Add adds a server that failed.
func (t *Tried) Add(s *Server) {
	t.set[s.number>>6&3] |= 1 << (s.number & 63)
	t.last = s.number
}

// Has reports whether the server was added.
func (t *Tried) Has(s *Server) bool { return t.set[s.number>>6&3]>>(s.number&63)&1 != 0 }

// Len returns how many there are.
func (t *Tried) Len() int {
	n := 0
	for _, w := range t.set {
		n += bits.OnesCount64(w)
	}
	return n
}

func (t *Tried) empty() bool { return t.set == [4]uint64{} }
