package http

import (
	"strconv"

	"reuseportd/internal/service/http/h1"
	"reuseportd/internal/service/http/message"
)

// reply is how a server's response goes on to a client.
type reply struct {
	framing h1.Framing      // of what the client gets
	date    []byte          // a whole line, for a response without one
	opts    message.Options // of the response's Connection
}

// appendResponse appends the head that a client gets, but for its last line, which says
// what becomes of the connection.
func (p *proxy) appendResponse(b []byte, r *message.Response, y *reply) []byte {
	b = append(b, "HTTP/1.1 "...)
	b = strconv.AppendInt(b, int64(r.Status), 10)
	b = append(b, ' ')
	if len(r.Phrase) > 0 {
		b = append(b, r.Phrase...)
	} else {
		b = append(b, message.Reason(r.Status)...)
	}
	b = append(b, "\r\n"...)
	upgrade := false
	dated := r.Status < 200 || p.response.has("date")
	for lines := r.Lines; len(lines) > 0; {
		var name, value []byte
		name, value, lines = message.NextField(lines)
		role := message.RoleOf(name)
		switch {
		case p.response.takes(name):
			continue
		case role == message.RoleDate:
			dated = true
		case role == message.RoleUpgrade && r.Status == 101:
		case role == message.RoleUpgrade && r.Status == 426:
			upgrade = true // what the client is to speak instead: RFC 9110 section 15.5.22
		case role == message.RoleTrailer && y.framing == h1.ByChunks && r.Chunked:
		case role >= message.RoleHop && role <= message.RoleUpgrade, y.opts.Take(name):
			continue
		}
		b = message.AppendField(b, name, value)
	}
	if upgrade {
		b = append(b, "Connection: Upgrade\r\n"...) // which section 7.8 wants beside it
	}
	if !dated {
		b = append(b, y.date...)
	}
	switch {
	case y.framing == h1.ByChunks:
		b = append(b, "Transfer-Encoding: chunked\r\n"...)
	case r.Length >= 0 && r.Status >= 200 && r.Status != 204:
		// Also where there is no content: it says what a GET would bring.
		b = append(b, "Content-Length: "...)
		b = append(strconv.AppendInt(b, r.Length, 10), "\r\n"...)
	}
	if r.Status >= 200 {
		b = append(b, p.response.set...)
	}
	return b
}
