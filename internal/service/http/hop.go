package http

// role is what a field is to whoever passes a message on.
type role uint8

const (
	roleOther     role = iota // goes through
	roleHop                   // for one connection alone, or about where the message ends
	roleTrailer               // Trailer: goes where trailers go
	roleUpgrade               // Upgrade: goes where a tunnel may come of it
	roleHost                  // Host: written anew
	roleExpect                // Expect
	roleDate                  // Date
	roleForwarded             // Forwarded and X-Forwarded-For: lists that are continued
	roleForwards              // others of X-Forwarded-…
)

// roleOf tells a field's role: RFC 9110 section 7.6.1 and what was in use before it.
func roleOf(name []byte) role {
	switch len(name) {
	case 2:
		if same(name, "te") {
			return roleHop
		}
	case 4:
		switch {
		case same(name, "host"):
			return roleHost
		case same(name, "date"):
			return roleDate
		}
	case 6:
		if same(name, "expect") {
			return roleExpect
		}
	case 7:
		switch {
		case same(name, "trailer"):
			return roleTrailer
		case same(name, "upgrade"):
			return roleUpgrade
		}
	case 9:
		if same(name, "forwarded") {
			return roleForwarded
		}
	case 10:
		if same(name, "connection") || same(name, "keep-alive") {
			return roleHop
		}
	case 14:
		if same(name, "content-length") {
			return roleHop
		}
	case 15:
		if same(name, "x-forwarded-for") {
			return roleForwarded
		}
	case 16:
		if same(name, "proxy-connection") {
			return roleHop
		}
	case 17:
		if same(name, "transfer-encoding") {
			return roleHop
		}
	case 18:
		if same(name, "proxy-authenticate") {
			return roleHop
		}
	case 19:
		if same(name, "proxy-authorization") {
			return roleHop
		}
	case 25:
		if same(name, "proxy-authentication-info") {
			return roleHop
		}
	}
	if toLower(name[0]) == 'x' && isForwards(name) {
		return roleForwards
	}
	return roleOther
}

// isForwards tells whether a name is one of X-Forwarded-…. An underscore counts as the
// dash that CGI makes of both.
func isForwards(name []byte) bool {
	const prefix = "x-forwarded-"
	if len(name) < len(prefix) {
		return false
	}
	for i := range len(prefix) {
		b := toLower(name[i])
		if b == '_' {
			b = '-'
		}
		if b != prefix[i] {
			return false
		}
	}
	return true
}

// isTrailer tells whether a field may come behind a body. Those of RFC 9110 section
// 6.5.1 may not: a recipient that merged them with the head's would change the
// framing, the route, the sender or the meaning of a message that was judged without them.
func isTrailer(name []byte) bool {
	if roleOf(name) != roleOther {
		return false
	}
	for _, no := range notTrailers {
		if same(name, no) {
			return false
		}
	}
	return true
}

var notTrailers = []string{
	"max-forwards", "cache-control", "pragma", "range", // control
	"if-match", "if-none-match", "if-modified-since", "if-unmodified-since", "if-range", // conditions
	"authorization", "cookie", "set-cookie", "www-authenticate", // authentication
	"age", "expires", "location", "retry-after", "vary", "warning", // control of responses
	"content-encoding", "content-type", "content-range", // how the content is read
}

// maxOptions bounds the names in Connection, each of which is looked for in every
// field.
const maxOptions = 32

// options are the names in Connection beyond those that are known here: their fields
// don't go through.
type options [][]byte

// read takes all options of a head whose field lines are good. It returns false if
// there are too many.
func (o options) read(lines []byte) (options, bool) {
	o = o[:0]
	for len(lines) > 0 {
		var name, value []byte
		if name, value, lines = nextField(lines); !same(name, "connection") {
			continue
		}
		for len(value) > 0 {
			var option []byte
			if option, value = cutMember(value); len(option) == 0 {
				continue
			}
			if len(o) == maxOptions {
				return o, false
			}
			o = append(o, option)
		}
	}
	return o, true
}

// take tells whether a field is one of them. That a client names what is set here,
// or what a trusted proxy has said of it, doesn't take it away.
func (o options) take(name []byte) bool {
	if len(o) == 0 {
		return false
	}
	for _, option := range o {
		if equalFold(option, name) {
			return roleOf(name) == roleOther
		}
	}
	return false
}

// equalFold compares two names.
func equalFold(a, b []byte) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if toLower(a[i]) != toLower(b[i]) {
			return false
		}
	}
	return true
}

func toLower(b byte) byte {
	if b >= 'A' && b <= 'Z' {
		b += 'a' - 'A'
	}
	return b
}
