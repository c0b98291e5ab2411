package http

import (
	"net/netip"
	"strconv"
	"strings"

	"reuseportd/internal/config"
	"reuseportd/internal/service/http/message"
)

// proxy is how a route passes requests on, compiled. It never changes.
type proxy struct {
	number   int    // among those of its site
	prefix   string // the route's path
	strip    bool
	host     string // config.Proxy.Host
	trusted  []netip.Prefix
	tells    forwarding // the fields that are set: those that the configuration doesn't edit
	request  edit
	response edit
	conf     *config.Proxy
}

func newProxy(c *config.Proxy, prefix string, trusted []netip.Prefix) *proxy {
	p := &proxy{
		prefix: prefix, strip: c.StripPrefix, host: c.Host, trusted: trusted,
		request: newEdit(&c.Request), response: newEdit(&c.Response), conf: c,
	}
	p.request.underscored = underscoresDropped
	p.tells = forwarding{
		addr: !p.request.has("x-forwarded-for"), proto: !p.request.has("x-forwarded-proto"),
		host: !p.request.has("x-forwarded-host"), all: !p.request.has("forwarded"),
	}
	return p
}

// origin judges a client's address.
func (p *proxy) origin(addr netip.Addr) origin {
	o := origin{client: addr.Unmap()}
	for _, t := range p.trusted {
		o.trusted = o.trusted || t.Contains(o.client)
	}
	return o
}

// appendRequest appends the head that a server gets. Nothing is copied from the
// client's as a block: each part was parsed, and is written in the one way that all
// servers read alike. server is what the server's Host field would be.
func (p *proxy) appendRequest(b []byte, r *message.Request, o origin, server string, opts message.Options) []byte {
	b = append(append(b, r.Method...), ' ')
	b = p.appendTarget(b, r)
	b = append(b, " HTTP/1.1\r\nHost: "...)
	switch {
	case p.host == config.HostPreserve && len(r.Authority) > 0:
		b = append(b, r.Authority...)
	case p.host == config.HostPreserve || p.host == config.HostServer:
		b = append(b, server...)
	default:
		b = append(b, p.host...)
	}
	b = append(b, "\r\n"...)
	var told forwarding
	b = p.appendFields(b, r, &o, opts, &told)
	switch {
	case r.Chunked:
		b = append(b, "Transfer-Encoding: chunked\r\n"...)
	case r.HasLength:
		b = append(b, "Content-Length: "...)
		b = append(strconv.AppendInt(b, r.Length, 10), "\r\n"...)
	}
	b = p.appendForwarding(b, r, &o, &told)
	switch {
	case r.Upgrade:
		b = append(b, "Connection: Upgrade\r\n"...)
	case r.Trailers:
		b = append(b, "TE: trailers\r\nConnection: TE\r\n"...)
	}
	b = append(b, p.request.set...)
	return append(b, "\r\n"...)
}

// appendFields appends the fields that go through, in their order. It takes note of those
// of earlier proxies that are believed.
func (p *proxy) appendFields(b []byte, r *message.Request, o *origin, opts message.Options, told *forwarding) []byte {
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
				continue // continued behind all others
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

// base is the route's path without a slash at its end.
func (p *proxy) base() string { return strings.TrimSuffix(p.prefix, "/") }

// appendTarget appends the path as it came, but for dot segments, and the query. The route's own
// path is taken off, or, where its slashes came encoded or twice, said as the route
// says it: so it is the same path to servers that mind such, and to those that don't.
func (p *proxy) appendTarget(b []byte, r *message.Request) []byte {
	base, from := p.base(), len(b)
	switch end, plain, ok := message.Within(r.Sent, base); {
	case !ok: // which can't be
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
