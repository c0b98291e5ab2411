package config

import "time"

// Balance is how a server is chosen among those of an upstream.
type Balance string

const (
	BalanceRoundRobin Balance = "round_robin"       // in turn, by weight
	BalanceLeast      Balance = "least_connections" // the one with the fewest in use for its weight
	BalanceRandom     Balance = "random"            // of two at random, the one with fewer in use
	BalanceHash       Balance = "hash"              // always the same one for a key, as long as it is there
)

// Upstream is a named pool of servers that connections and requests go to.
type Upstream struct {
	Name    string
	Balance Balance
	// HashHeader is the request field whose value is the key of BalanceHash; "" is the
	// client's address.
	HashHeader string
	Servers    []Server

	ConnectTimeout time.Duration // of one attempt
	// IdleConnections bounds the connections that each event loop keeps for later
	// requests, for IdleTimeout each.
	IdleConnections int
	IdleTimeout     time.Duration

	// MaxFailures in a row eject a server for CoolDown; 0 never does. For SlowStart
	// after it came back its weight grows from nothing.
	MaxFailures         int
	CoolDown, SlowStart time.Duration

	Retries      int           // further attempts, on other servers
	ResolveEvery time.Duration // how often names are looked up again
	SendProxy    int           // version of the PROXY protocol header that is sent; 0 is none
	Check        *Check        // nil if servers are not asked

	Pos Position
}

// Server is one address of an upstream, or all that a name stands for.
type Server struct {
	// Network is tcp or unix. Address is canonical: "10.0.0.1:80", "[::1]:80", a
	// path, or "name:80" in lower case, which is to be looked up.
	Network string
	Address string
	Named   bool

	Weight         int // 1 or more
	MaxConnections int // in use at the same time, by all workers together; 0 is no bound
	Backup         bool

	Pos Position
}

// Check is how servers are asked whether they are well: by a TCP connection, or by
// an HTTP request if Path is set.
type Check struct {
	Interval, Timeout time.Duration
	Rise, Fall        int // in a row, until it counts as up or down

	Path       string
	Host       string // the field that is sent; "" is the server's address
	StatusFrom int    // the statuses that are well, both ends included
	StatusTo   int
}

// TCP passes bytes between a client and a server of an upstream.
type TCP struct {
	Upstream string // "" if there is none for whom SNI has nothing
	SNI      []SNI  // upstreams by the name that a client's TLS hello asks for; empty if it isn't looked at
	// IdleTimeout cuts a pair on which nothing moved for so long; TotalTimeout any pair.
	// 0 is never.
	IdleTimeout, TotalTimeout time.Duration
	// AcceptProxy has each client begin with a PROXY protocol header.
	AcceptProxy bool
	NoDelay     bool       // TCP_NODELAY, tcp(7)
	Keepalive   *Keepalive // nil turns it off
}

// SNI says which upstream is meant by a name.
type SNI struct {
	Name     string // in lower case; "*." before it stands for one label or more
	Upstream string
}

// Keepalive is TCP's own: TCP_KEEPIDLE, TCP_KEEPINTVL and TCP_KEEPCNT, tcp(7).
type Keepalive struct {
	Idle, Interval time.Duration // whole seconds
	Count          int
}

// Proxy passes requests on to the servers of an upstream.
type Proxy struct {
	Upstream string
	// StripPrefix takes the route's path off the request's.
	StripPrefix bool
	// Host is the Host field that is sent: HostPreserve, HostServer or any other text.
	Host string

	Request, Response HeaderEdit

	ResponseTimeout time.Duration // between two reads from the server: 504
	TotalTimeout    time.Duration // of an exchange; 0 is no bound
}

const (
	HostPreserve = "preserve" // the client's
	HostServer   = "server"   // the server's address
)

// HeaderEdit is done to the fields of a message: Remove first, then Set, which also
// removes what the message had of that name. Names and values are valid.
type HeaderEdit struct {
	Set    []Header
	Remove []string
}
