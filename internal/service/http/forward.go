package http

import (
	"net/netip"
	"strconv"
	"strings"

	"reuseportd/internal/config"
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
func (p *proxy) appendRequest(b []byte, r *request, o origin, server string, opts options) []byte {
	b = append(append(b, r.method...), ' ')
	b = p.appendTarget(b, r)
	b = append(b, " HTTP/1.1\r\nHost: "...)
	switch {
	case p.host == config.HostPreserve && len(r.authority) > 0:
		b = append(b, r.authority...)
	case p.host == config.HostPreserve || p.host == config.HostServer:
		b = append(b, server...)
	default:
		b = append(b, p.host...)
	}
	b = append(b, "\r\n"...)
	var told forwarding
	b = p.appendFields(b, r, &o, opts, &told)
	switch {
	case r.chunked:
		b = append(b, "Transfer-Encoding: chunked\r\n"...)
	case r.hasLength:
		b = append(b, "Content-Length: "...)
		b = append(strconv.AppendInt(b, r.length, 10), "\r\n"...)
	}
	b = p.appendForwarding(b, r, &o, &told)
	switch {
	case r.upgrade:
		b = append(b, "Connection: Upgrade\r\n"...)
	case r.trailers:
		b = append(b, "TE: trailers\r\nConnection: TE\r\n"...)
	}
	b = append(b, p.request.set...)
	return append(b, "\r\n"...)
}

// appendFields appends the fields that go through, in their order. It takes note of those
// of earlier proxies that are believed.
func (p *proxy) appendFields(b []byte, r *request, o *origin, opts options, told *forwarding) []byte {
	for lines := r.lines; len(lines) > 0; {
		var name, value []byte
		name, value, lines = nextField(lines)
		role := roleOf(name)
		switch {
		case p.request.takes(name):
			continue
		case role == roleOther:
			if opts.take(name) {
				continue
			}
		case role == roleForwarded || role == roleForwards:
			if !o.trusted {
				continue
			}
			if told.note(name); role == roleForwarded {
				continue // continued behind all others
			}
		case role == roleTrailer && r.chunked:
		case role == roleUpgrade && r.upgrade:
		case role == roleExpect && r.expect: // in HTTP/1.0 it has no meaning
		case role == roleDate:
		default:
			continue
		}
		b = appendField(b, name, value)
	}
	return b
}

// base is the route's path without a slash at its end.
func (p *proxy) base() string { return strings.TrimSuffix(p.prefix, "/") }

// appendTarget appends the path as it came, but for dot segments, and the query. The route's own
// path is taken off, or, where its slashes came encoded or twice, said as the route
// says it: so it is the same path to servers that mind such, and to those that don't.
func (p *proxy) appendTarget(b []byte, r *request) []byte {
	base, from := p.base(), len(b)
	switch end, plain, ok := within(r.sent, base); {
	case !ok: // which can't be
		b = appendEncoded(b, r.path)
	case p.strip:
		b = appendBelow(b, r.sent[end:])
	case plain:
		b = appendASCII(b, r.sent)
	default:
		b = appendBelow(appendEncoded(b, []byte(base)), r.sent[end:])
	}
	if len(b) == from {
		b = append(b, '/')
	}
	if r.query != nil {
		b = appendASCII(append(b, '?'), r.query)
	}
	return b
}
