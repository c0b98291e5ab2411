package proxy

import (
	"net/netip"

	"reuseportd/internal/service/http/message"
	"reuseportd/internal/tls/info"
)

// origin is what a server is told about a request's client.
type origin struct {
	client  netip.Addr    // the zero Addr for a Unix socket's client
	trusted bool          // the client's Forwarded and X-Forwarded-… fields are believed
	secure  bool          // its connection is encrypted
	session *info.Session // by what, nil if that isn't known
}

// scheme is that of the client's URL.
func (o *origin) scheme() string {
	if o.secure {
		return "https"
	}
	return "http"
}

// forwarding is a set of forwarding fields: those that are there, or those to be set.
type forwarding struct{ addr, proto, host, all bool }

// note records a field.
func (f *forwarding) note(name []byte) {
	switch {
	case message.Same(name, "x-forwarded-for"):
		f.addr = true
	case message.Same(name, "x-forwarded-proto"):
		f.proto = true
	case message.Same(name, "x-forwarded-host"):
		f.host = true
	case message.Same(name, "forwarded"):
		f.all = true
	}
}

// appendForwarding appends what a server is told of the client: X-Forwarded-For, -Proto
// and -Host, and Forwarded, RFC 7239. told says which fields came and were believed:
// lists are continued, the others are left as they are.
func (p *Rules) appendForwarding(b []byte, r *message.Request, o *origin, told *forwarding) []byte {
	if p.tells.addr && o.client.IsValid() {
		b = append(b, "X-Forwarded-For: "...)
		if told.addr {
			b = appendJoined(b, r.Lines, "x-forwarded-for")
		}
		b = append(o.client.AppendTo(b), "\r\n"...)
	}
	if p.tells.proto && !told.proto {
		b = append(append(append(b, "X-Forwarded-Proto: "...), o.scheme()...), "\r\n"...)
	}
	if p.tells.host && !told.host && len(r.Authority) > 0 {
		b = append(b, "X-Forwarded-Host: "...)
		b = append(append(b, r.Authority...), "\r\n"...)
	}
	if p.tells.all {
		b = append(b, "Forwarded: "...)
		if told.all {
			b = appendJoined(b, r.Lines, "forwarded")
		}
		b = appendElement(b, r, o)
	}
	return b
}

// appendElement appends a forwarded-element, RFC 7239 section 4, and ends the line.
func appendElement(b []byte, r *message.Request, o *origin) []byte {
	switch addr := o.client; {
	case !addr.IsValid():
		b = append(b, "for=unknown"...)
	case addr.Is4():
		b = addr.AppendTo(append(b, "for="...))
	default: // brackets and colons need quotes, section 6
		b = append(addr.WithZone("").AppendTo(append(b, `for="[`...)), `]"`...)
	}
	if len(r.Authority) > 0 {
		// Nothing that an authority may contain needs a backslash.
		b = append(append(append(b, `;host="`...), r.Authority...), '"')
	}
	return append(append(append(b, ";proto="...), o.scheme()...), "\r\n"...)
}

// appendJoined appends the values of all fields of a name as one list, with a comma after
// each.
func appendJoined(b, lines []byte, lower string) []byte {
	for len(lines) > 0 {
		var name, value []byte
		if name, value, lines = message.NextField(lines); message.Same(name, lower) && len(value) > 0 {
			b = append(append(b, value...), ", "...)
		}
	}
	return b
}
