package message

// Role is what a proxy has to do with a field.
type Role uint8

const (
	RoleOther     Role = iota // is passed on
	RoleHop                   // for one connection alone, or about the framing
	RoleTrailer               // Trailer: is passed on where trailers are
	RoleUpgrade               // Upgrade: is passed on where it may lead to a tunnel
	RoleHost                  // Host: written anew
	RoleExpect                // Expect
	RoleDate                  // Date
	RoleForwarded             // Forwarded and X-Forwarded-For: lists that each proxy appends to
	RoleForwards              // any other X-Forwarded-… field
)

// RoleOf returns a field's role: RFC 9110 section 7.6.1 and the fields that older
// software uses.
func RoleOf(name []byte) Role {
	switch len(name) {
	case 2:
		if Same(name, "te") {
			return RoleHop
		}
	case 4:
		switch {
		case Same(name, "host"):
			return RoleHost
		case Same(name, "date"):
			return RoleDate
		}
	case 6:
		if Same(name, "expect") {
			return RoleExpect
		}
	case 7:
		switch {
		case Same(name, "trailer"):
			return RoleTrailer
		case Same(name, "upgrade"):
			return RoleUpgrade
		}
	case 9:
		if Same(name, "forwarded") {
			return RoleForwarded
		}
	case 10:
		if Same(name, "connection") || Same(name, "keep-alive") {
			return RoleHop
		}
	case 14:
		if Same(name, "content-length") {
			return RoleHop
		}
	case 15:
		if Same(name, "x-forwarded-for") {
			return RoleForwarded
		}
	case 16:
		if Same(name, "proxy-connection") {
			return RoleHop
		}
	case 17:
		if Same(name, "transfer-encoding") {
			return RoleHop
		}
	case 18:
		if Same(name, "proxy-authenticate") {
			return RoleHop
		}
	case 19:
		if Same(name, "proxy-authorization") {
			return RoleHop
		}
	case 25:
		if Same(name, "proxy-authentication-info") {
			return RoleHop
		}
	}
	if ToLower(name[0]) == 'x' && IsForwards(name) {
		return RoleForwards
	}
	return RoleOther
}

// IsForwards reports whether a name is one of X-Forwarded-…. An underscore counts as a
// dash, since CGI doesn't distinguish them.
func IsForwards(name []byte) bool {
	const prefix = "x-forwarded-"
	if len(name) < len(prefix) {
		return false
	}
	for i := range len(prefix) {
		b := ToLower(name[i])
		if b == '_' {
			b = '-'
		}
		if b != prefix[i] {
			return false
		}
	}
	return true
}

// IsTrailer reports whether a field is allowed in a trailer section. Those of RFC 9110
// section 6.5.1 may not: a recipient that merged them with the head's would change the
// framing, the route, the sender or the meaning of a message that has been judged without
// them.
func IsTrailer(name []byte) bool {
	if RoleOf(name) != RoleOther {
		return false
	}
	for _, no := range notTrailers {
		if Same(name, no) {
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

// MaxOptions bounds the names in Connection, since every field is compared with each of
// them.
const MaxOptions = 32

// Options are the names in Connection beyond those known here. Fields of these names are
// not passed on.
type Options [][]byte

// Read appends all options of a head whose field lines are valid. It returns false if
// there are too many.
func (o Options) Read(lines []byte) (Options, bool) {
	o = o[:0]
	for len(lines) > 0 {
		var name, value []byte
		if name, value, lines = NextField(lines); !Same(name, "connection") {
			continue
		}
		for len(value) > 0 {
			var option []byte
			if option, value = cutMember(value); len(option) == 0 {
				continue
			}
			if len(o) == MaxOptions {
				return o, false
			}
			o = append(o, option)
		}
	}
	return o, true
}

// Take reports whether a field is one of them, and so is removed. Fields that are set
// here, and those in which a trusted proxy describes the client, can't be removed by
// naming them.
func (o Options) Take(name []byte) bool {
	if len(o) == 0 {
		return false
	}
	for _, option := range o {
		if equalFold(option, name) {
			return RoleOf(name) == RoleOther
		}
	}
	return false
}

// equalFold reports whether two names are equal, ignoring case.
func equalFold(a, b []byte) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if ToLower(a[i]) != ToLower(b[i]) {
			return false
		}
	}
	return true
}

// ToLower returns b in lower case, if it is an ASCII letter.
func ToLower(b byte) byte {
	if b >= 'A' && b <= 'Z' {
		b += 'a' - 'A'
	}
	return b
}
