package http

import "strconv"

// reply is how a server's response goes on to a client.
type reply struct {
	framing framing // of what the client gets
	date    []byte  // a whole line, for a response without one
	opts    options // of the response's Connection
}

// appendResponse appends the head that a client gets, but for its last line, which says
// what becomes of the connection.
func (p *proxy) appendResponse(b []byte, r *response, y *reply) []byte {
	b = append(b, "HTTP/1.1 "...)
	b = strconv.AppendInt(b, int64(r.status), 10)
	b = append(b, ' ')
	if len(r.phrase) > 0 {
		b = append(b, r.phrase...)
	} else {
		b = append(b, reason(r.status)...)
	}
	b = append(b, "\r\n"...)
	upgrade := false
	dated := r.status < 200 || p.response.has("date")
	for lines := r.lines; len(lines) > 0; {
		var name, value []byte
		name, value, lines = nextField(lines)
		role := roleOf(name)
		switch {
		case p.response.takes(name):
			continue
		case role == roleDate:
			dated = true
		case role == roleUpgrade && r.status == 101:
		case role == roleUpgrade && r.status == 426:
			upgrade = true // what the client is to speak instead: RFC 9110 section 15.5.22
		case role == roleTrailer && y.framing == framedChunks && r.chunked:
		case role >= roleHop && role <= roleUpgrade, y.opts.take(name):
			continue
		}
		b = appendField(b, name, value)
	}
	if upgrade {
		b = append(b, "Connection: Upgrade\r\n"...) // which section 7.8 wants beside it
	}
	if !dated {
		b = append(b, y.date...)
	}
	switch {
	case y.framing == framedChunks:
		b = append(b, "Transfer-Encoding: chunked\r\n"...)
	case r.length >= 0 && r.status >= 200 && r.status != 204:
		// Also where there is no content: it says what a GET would bring.
		b = append(b, "Content-Length: "...)
		b = append(strconv.AppendInt(b, r.length, 10), "\r\n"...)
	}
	if r.status >= 200 {
		b = append(b, p.response.set...)
	}
	return b
}
