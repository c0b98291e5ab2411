package proxy

import "reuseportd/internal/service/http/message"

// composeResponse makes the client's response from the server's r, in out and the buffer b, which are
// reused. trailers says that trailer fields are passed on if the server sends some.
func (p *Rules) composeResponse(out *message.Response, b []byte, r *message.Response, trailers bool) []byte {
	b = b[:0]
	*out = message.Response{
		Status: r.Status, Phrase: r.Phrase, Length: r.Length, Set: p.response.set,
		Dated: r.Status < 200 || p.response.has("date"),
	}
	for lines := r.Lines; len(lines) > 0; {
		var name, value []byte
		name, value, lines = message.NextField(lines)
		role := message.RoleOf(name)
		switch {
		case p.response.takes(name):
			continue
		case role == message.RoleDate:
			out.Dated = true
		case role == message.RoleUpgrade && r.Status == 101:
		case role == message.RoleUpgrade && r.Status == 426:
			out.Upgrade = true // 426 names the protocol to use instead: RFC 9110 section 15.5.22
		case role == message.RoleTrailer && trailers && r.Chunked:
		case role >= message.RoleHop && role <= message.RoleUpgrade, r.Named.Take(name):
			continue
		}
		b = message.AppendField(b, name, value)
	}
	out.Lines = b
	return b
}
