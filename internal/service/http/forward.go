package http

import (
	"net/netip"
	"strconv"

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

// appendTarget appends the path that the route was chosen by, and the query. Where decoding
// was all that it took to choose, the path goes on in the client's own encoding. Else it is
// encoded anew: what was removed, or a slash of the route's that was sent encoded, would
// have the server read another path than the one that was judged here.
func (p *proxy) appendTarget(b []byte, r *request) []byte {
	cut := 0
	if p.strip {
		cut = len(p.prefix)
		if p.prefix[cut-1] == '/' {
			cut-- // the rest begins with it
		}
	}
	at, plain := within(r.sent, cut, len(p.prefix))
	from := len(b)
	if plain && r.decoded {
		b = append(b, r.sent[at:]...)
	} else {
		b = appendEncoded(b, r.path[cut:])
	}
	if len(b) == from {
		b = append(b, '/')
	}
	if r.query != nil {
		b = append(append(b, '?'), r.query...)
	}
	return b
}

// within returns where in a path as it was sent the first cut decoded bytes end. plain is
// false if a slash among the first n of them, n >= cut, or the one behind, was sent
// encoded.
func within(sent []byte, cut, n int) (at int, plain bool) {
	at = len(sent)
	for i, k := 0, 0; i < len(sent) && k <= n; k++ {
		if k == cut {
			at = i
		}
		if sent[i] != '%' {
			i++
			continue
		}
		if unhex(sent[i+1])<<4|unhex(sent[i+2]) == '/' {
			return 0, false
		}
		i += 3
	}
	return at, true
}
