package proxy

import (
	"net/netip"
	"strings"

	"reuseportd/internal/config"
	"reuseportd/internal/service/http/message"
)

// Rules are the compiled configuration of a proxied route: what a server is sent, and what a client.
// They never change.
type Rules struct {
	prefix   string // the route's path
	strip    bool
	host     string // config.Proxy.Host
	trusted  []netip.Prefix
	tells    forwarding // the fields that are set here: those that the configuration doesn't edit
	request  edit
	response edit
	conf     *config.Proxy
}

// NewRules compiles a configuration of a route at a path. trusted are the addresses of clients whose
// Forwarded and X-Forwarded-… fields are believed; underscores says that fields with underscores in their
// names are passed on.
func NewRules(c *config.Proxy, prefix string, trusted []netip.Prefix, underscores bool) *Rules {
	p := &Rules{
		prefix: prefix, strip: c.StripPrefix, host: c.Host, trusted: trusted,
		request: newEdit(&c.Request, true), response: newEdit(&c.Response, false), conf: c,
	}
	if p.request.underscored = underscoresDropped; underscores {
		p.request.underscored = underscoresKept
	}
	p.tells = forwarding{
		addr: !p.request.has("x-forwarded-for"), proto: !p.request.has("x-forwarded-proto"),
		host: !p.request.has("x-forwarded-host"), all: !p.request.has("forwarded"),
	}
	return p
}

// origin returns what is known of a client by its address.
func (p *Rules) origin(addr netip.Addr) origin {
	o := origin{client: addr.Unmap()}
	for _, t := range p.trusted {
		o.trusted = o.trusted || t.Contains(o.client)
	}
	return o
}

// Upstream is the name of the upstream that requests go to.
func (p *Rules) Upstream() string { return p.conf.Upstream }

// Strips reports whether the route's own path is removed from what servers get.
func (p *Rules) Strips() bool { return p.strip }

// composeRequest makes the server's request from the client's r, in out and the buffer b, which are reused. No
// block of the client's bytes is copied: each part was parsed, and is written in the one form that all servers
// read alike. server is the Host field to send if the configuration asks for the server's own or the client
// sent none, opts are the names in r's Connection.
func (p *Rules) composeRequest(out *message.Request, b []byte, r *message.Request, o origin, server string, opts message.Options) []byte {
	b = p.appendTarget(b[:0], r)
	target := len(b)
	switch {
	case p.host == config.HostPreserve && len(r.Authority) > 0:
		b = append(b, r.Authority...)
	case p.host == config.HostPreserve || p.host == config.HostServer:
		b = append(b, server...)
	default:
		b = append(b, p.host...)
	}
	authority := len(b)
	var told forwarding
	b = p.appendFields(b, r, &o, opts, &told)
	lines := len(b)
	b = p.appendForwarding(b, r, &o, &told)
	b = p.request.appendTold(b, o.session)
	*out = message.Request{
		Method: r.Method, Target: b[:target], Authority: b[target:authority], Lines: b[authority:lines], Told: b[lines:], Set: p.request.set,
		Chunked: r.Chunked, HasLength: r.HasLength, Length: r.Length, Upgrade: r.Upgrade, Trailers: r.Trailers,
	}
	return b
}

// appendFields appends the fields that are passed on, in their order. It records which
// fields of earlier proxies are believed.
func (p *Rules) appendFields(b []byte, r *message.Request, o *origin, opts message.Options, told *forwarding) []byte {
	for lines := r.Lines; len(lines) > 0; {
		var name, value []byte
		name, value, lines = message.NextField(lines)
		role := message.RoleOf(name)
		switch {
		case p.request.takes(name):
			continue
		case role == message.RoleOther:
			if opts.Take(name) {
				continue
			}
		case role == message.RoleForwarded || role == message.RoleForwards:
			if !o.trusted {
				continue
			}
			if told.note(name); role == message.RoleForwarded {
				continue // continued after all others
			}
		case role == message.RoleTrailer && r.Chunked:
		case role == message.RoleUpgrade && r.Upgrade:
		case role == message.RoleExpect && r.Expect: // in HTTP/1.0 it has no meaning
		case role == message.RoleDate:
		default:
			continue
		}
		b = message.AppendField(b, name, value)
	}
	return b
}

// Base is the route's path without a slash at its end.
func (p *Rules) Base() string { return strings.TrimSuffix(p.prefix, "/") }

// appendTarget appends the path as it was sent, without dot segments, and the query. The route's
// own path is removed if the configuration says so. If its slashes were sent encoded or
// repeated, it is written as the configuration has it, so that all servers read the same path.
func (p *Rules) appendTarget(b []byte, r *message.Request) []byte {
	base, from := p.Base(), len(b)
	switch end, plain, ok := message.Within(r.Sent, base); {
	case !ok: // impossible: the route was found by this path
		b = message.AppendEncoded(b, r.Path)
	case p.strip:
		b = message.AppendBelow(b, r.Sent[end:])
	case plain:
		b = message.AppendASCII(b, r.Sent)
	default:
		b = message.AppendBelow(message.AppendEncoded(b, []byte(base)), r.Sent[end:])
	}
	if len(b) == from {
		b = append(b, '/')
	}
	if r.Query != nil {
		b = message.AppendASCII(append(b, '?'), r.Query)
	}
	return b
}
