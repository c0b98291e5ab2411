package control

import "time"

// Upstream is a pool of servers of the serving configuration. Its counters and those of
// its servers are sums over all workers. They only grow, as long as the upstream's name
// and the server's address stay the same.
type Upstream struct {
	Name        string   `json:"name"`
	Balance     string   `json:"balance"`
	Sessions    uint64   `json:"sessions"`     // connections and requests that were passed on
	TurnedAway  uint64   `json:"turned_away"`  // …and those that no server could take
	Retries     uint64   `json:"retries"`      // further attempts on other servers
	DNSFailures uint64   `json:"dns_failures"` // names that could not be looked up
	Servers     []Server `json:"servers"`
}

// Server is one address of an upstream.
type Server struct {
	// Address is what is connected to. Name is the name that was looked up for it, "" if
	// none was. A name that has no address yet is a server without Address.
	Address string `json:"address"`
	Name    string `json:"name,omitempty"`
	State   string `json:"state"` // up, slow start, ejected, down or unresolved
	// Since is when it entered that state, nil if it was never in another. Until is when an
	// ejected server is used again, or one in slow start has its full weight.
	Since          *time.Time        `json:"since,omitempty"`
	Until          *time.Time        `json:"until,omitempty"`
	Weight         int               `json:"weight"`
	Backup         bool              `json:"backup"`
	InUse          uint64            `json:"in_use"`
	MaxConnections int               `json:"max_connections"` // 0 is no bound
	Sessions       uint64            `json:"sessions"`
	Connects       uint64            `json:"connects"` // connections made to it
	Failures       map[string]uint64 `json:"failures"` // by reason
	Retries        uint64            `json:"retries"`  // sessions that went on to another server
	Ejections      uint64            `json:"ejections"`
	Full           uint64            `json:"full"` // times it was passed over because of max_connections
	ChecksOK       uint64            `json:"checks_ok"`
	ChecksFailed   uint64            `json:"checks_failed"`
	BytesIn        uint64            `json:"bytes_in"` // from it
	BytesOut       uint64            `json:"bytes_out"`
}
