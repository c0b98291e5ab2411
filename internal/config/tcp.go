package config

import (
	"time"

	"reuseportd/internal/config/yaml"
)

// TCP passes bytes between a client and a server of an upstream.
type TCP struct {
	Upstream string // of those that SNI has nothing for; "" if there is none
	SNI      []SNI  // upstreams by the name that a client's TLS hello asks for; empty if it isn't looked at
	// IdleTimeout cuts a pair on which nothing moved for so long; TotalTimeout any pair.
	// 0 is never.
	IdleTimeout, TotalTimeout time.Duration
	// AcceptProxy expects a PROXY protocol header before all else that a client sends.
	AcceptProxy bool
	NoDelay     bool       // TCP_NODELAY, tcp(7)
	Keepalive   *Keepalive // nil turns it off
}

var tcpObject = object[TCP]{at: "listeners[].tcp", what: "tcp", fields: []field[TCP]{
	{"upstream", func(d *decoder, n *yaml.Node, t *TCP) { t.Upstream = d.use(n, false) }},
	{"sni", readSNI},
	{"idle_timeout", durationInto(0, func(t *TCP) *time.Duration { return &t.IdleTimeout })},
	{"total_timeout", durationInto(0, func(t *TCP) *time.Duration { return &t.TotalTimeout })},
	{"accept_proxy", boolInto(func(t *TCP) *bool { return &t.AcceptProxy })},
	{"nodelay", boolInto(func(t *TCP) *bool { return &t.NoDelay })},
	{"keepalive", readKeepalive},
}}

// tcp reads a tcp service; it never returns nil.
func (d *decoder) tcp(n *yaml.Node) *TCP {
	t := &TCP{IdleTimeout: time.Hour, NoDelay: true, Keepalive: defaultKeepalive()}
	if g := tcpObject.read(d, n, t); g != nil && !g.has("upstream") && !g.has("sni") {
		d.missing(g, n.Pos, "add upstream: and the name of one", "tcp without upstream")
	}
	return t
}
