package config

import (
	"fmt"
	"time"

	"reuseportd/internal/config/yaml"
)

// Balance is how a server is chosen among those of an upstream.
type Balance string

const (
	BalanceRoundRobin Balance = "round_robin"       // in turn, by weight
	BalanceLeast      Balance = "least_connections" // the one with the fewest in use for its weight
	BalanceRandom     Balance = "random"            // of two at random, the one with fewer in use
	BalanceHash       Balance = "hash"              // always the same one for a key, as long as it is there
)

var balances = []Balance{BalanceRoundRobin, BalanceLeast, BalanceRandom, BalanceHash}

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
	TLS          *UpstreamTLS  // nil if servers are spoken to in the clear

	Pos Position
}

const (
	maxServers = 256
	maxWeight  = 1000
)

var upstreamObject = object[Upstream]{at: "upstreams[]", what: "an upstream", fields: []field[Upstream]{
	{"name", nameInto(func(u *Upstream) *string { return &u.Name })},
	{"balance", choiceInto(balances, func(u *Upstream) *Balance { return &u.Balance })},
	{"hash", readHash},
	{"servers", func(d *decoder, n *yaml.Node, u *Upstream) { u.Servers = d.servers(n) }},
	{"connect_timeout", durationInto(time.Millisecond, func(u *Upstream) *time.Duration { return &u.ConnectTimeout })},
	{"idle_connections", intInto(0, 1<<16, func(u *Upstream) *int { return &u.IdleConnections })},
	{"idle_timeout", durationInto(time.Millisecond, func(u *Upstream) *time.Duration { return &u.IdleTimeout })},
	{"max_failures", intInto(0, 1000, func(u *Upstream) *int { return &u.MaxFailures })},
	{"cool_down", durationInto(time.Millisecond, func(u *Upstream) *time.Duration { return &u.CoolDown })},
	{"slow_start", durationInto(0, func(u *Upstream) *time.Duration { return &u.SlowStart })},
	{"retries", intInto(0, maxServers, func(u *Upstream) *int { return &u.Retries })},
	{"resolve_every", durationInto(100*time.Millisecond, func(u *Upstream) *time.Duration { return &u.ResolveEvery })},
	{"send_proxy", readSendProxy},
	{"check", func(d *decoder, n *yaml.Node, u *Upstream) { u.Check = d.healthCheck(n) }},
	{"tls", func(d *decoder, n *yaml.Node, u *Upstream) { u.TLS = d.upstreamTLS(n) }},
}}

var hashObject = object[Upstream]{at: "upstreams[].hash", what: "hash", fields: []field[Upstream]{
	{"header", func(d *decoder, n *yaml.Node, u *Upstream) {
		if s, ok := d.text(n); ok && d.headerName(s, n.Pos, nil, "") {
			u.HashHeader = s
		}
	}},
}}

func defaultUpstream() Upstream {
	return Upstream{
		Balance:         BalanceRoundRobin,
		ConnectTimeout:  2 * time.Second,
		IdleConnections: 64,
		IdleTimeout:     60 * time.Second,
		MaxFailures:     3,
		CoolDown:        10 * time.Second,
		Retries:         2,
		ResolveEvery:    10 * time.Second,
	}
}

// readUpstreams reads the list and finds names given twice.
func readUpstreams(d *decoder, n *yaml.Node, c *Config) {
	items, ok := d.items(n, "begin each upstream with - name:")
	if !ok {
		return
	}
	names := map[string]Position{}
	for _, item := range items {
		u := defaultUpstream()
		g := upstreamObject.read(d, item, &u)
		if g == nil {
			continue
		}
		u.Pos = g.pos("name", item.Pos)
		for _, key := range []string{"name", "servers"} {
			if !g.has(key) {
				d.missing(g, item.Pos, "add "+key+":", "an upstream without "+key)
			}
		}
		if g.has("hash") && u.Balance != BalanceHash {
			d.rep.Add(g.entries["hash"].Pos, "remove it, or write balance: hash", "hash is for balance: hash, and this upstream has balance: %s", u.Balance)
		}
		if u.Name != "" {
			d.unique(names, u.Name, u.Pos, "upstreams have the name "+yaml.Quote(u.Name))
		}
		c.Upstreams = append(c.Upstreams, u)
	}
}

// readHash reads what the key is made of: client, or a header's name.
func readHash(d *decoder, n *yaml.Node, u *Upstream) {
	switch {
	case n.Kind == yaml.Text && n.Text == "client":
	case n.Kind == yaml.Mapping && len(n.Entries) > 0:
		hashObject.read(d, n, u)
	default:
		hint := ""
		if n.Kind == yaml.Text && isToken(n.Text) {
			hint = fmt.Sprintf("write hash: {header: %s} if that is meant", n.Text)
		}
		d.wrong(n, hint, "client or {header: NAME}")
	}
}

func readSendProxy(d *decoder, n *yaml.Node, u *Upstream) {
	var word string
	choiceInto([]string{"none", "v1", "v2"}, func(s *string) *string { return s })(d, n, &word)
	switch word {
	case "v1":
		u.SendProxy = 1
	case "v2":
		u.SendProxy = 2
	}
}
