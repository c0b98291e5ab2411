package proxy

import (
	"bytes"
	"strings"

	"reuseportd/internal/config"
	"reuseportd/internal/service/http/message"
	"reuseportd/internal/tls/info"
)

// edit is a compiled config.HeaderEdit.
type edit struct {
	names   []string // of the fields that are removed, in lower case
	lengths uint64   // bit n: a name has n bytes, modulo 64
	set     []byte   // whole field lines to add
	told    []told   // …and those that depend on the request's connection

	underscored underscored // what is done with names that have underscores
}

// underscored says what is done with fields that have underscores in their names. CGI, and
// software that follows it, can't tell X_Forwarded_For from X-Forwarded-For.
type underscored uint8

const (
	underscoresPass    underscored = iota // for servers' responses
	underscoresDropped                    // for requests, by default
	underscoresKept                       // except those that CGI reads as a field that is removed or replaced
)

// takes reports whether a field is dropped for its underscores.
func (u underscored) takes(name []byte) bool {
	if u == underscoresPass || bytes.IndexByte(name, '_') < 0 {
		return false
	}
	if u == underscoresDropped || message.IsForwards(name) {
		return true
	}
	var room [len("proxy-authentication-info")]byte
	dashed := append(room[:0], name[:min(len(name), len(room))]...)
	for i, b := range dashed {
		if b == '_' {
			dashed[i] = '-'
		}
	}
	return len(name) <= len(room) && message.RoleOf(dashed) != message.RoleOther
}

// newEdit compiles an edit. Fields that frame a message or belong to one connection can't
// be edited, even if the configuration's checks have let them through. placeholders says that values may have some.
func newEdit(c *config.HeaderEdit, placeholders bool) (e edit) {
	take := func(name string) bool {
		switch message.RoleOf([]byte(name)) {
		case message.RoleHop, message.RoleTrailer, message.RoleUpgrade, message.RoleHost:
			return false
		}
		e.names = append(e.names, strings.ToLower(name))
		e.lengths |= 1 << (len(name) % 64)
		return true
	}
	for _, name := range c.Remove {
		take(name)
	}
	for _, f := range c.Set {
		parts, _ := config.ValueParts(f.Value)
		switch {
		case !take(f.Name):
		case parts != nil && placeholders:
			e.told = append(e.told, told{f.Name, parts})
		default:
			e.set = append(e.set, f.Name+": "+f.Value+"\r\n"...)
		}
	}
	return e
}

// told is a field whose value has placeholders.
type told struct {
	name  string
	parts []config.ValuePart
}

// appendTold appends the lines of fields with placeholders. One whose placeholders all stand for nothing is left
// out.
func (e *edit) appendTold(b []byte, s *info.Session) []byte {
	for _, f := range e.told {
		from, any := len(b), false
		b = append(append(b, f.name...), ": "...)
		for _, p := range f.parts {
			if p.Placeholder == "" {
				b = append(b, p.Text...)
				continue
			}
			v := s.Value(p.Placeholder)
			any = any || v != ""
			b = append(b, v...)
		}
		if b = append(b, "\r\n"...); !any {
			b = b[:from]
		}
	}
	return b
}

// takes reports whether a field is removed or replaced. An underscore counts as a dash,
// as in CGI; otherwise a client could send a field that isn't to be believed under its
// other name.
func (e *edit) takes(name []byte) bool {
	if e.underscored.takes(name) {
		return true
	}
	if e.lengths>>(len(name)%64)&1 == 0 {
		return false
	}
	for _, no := range e.names {
		if sameInCGI(name, no) {
			return true
		}
	}
	return false
}

// sameInCGI reports whether CGI maps a name to the same variable as word: RFC 3875
// section 4.1.18.
func sameInCGI(name []byte, word string) bool {
	if len(name) != len(word) {
		return false
	}
	for i, b := range name {
		if b = message.ToLower(b); b != word[i] && (b != '_' || word[i] != '-') && (b != '-' || word[i] != '_') {
			return false
		}
	}
	return true
}

// has is like takes, for a name in lower case.
func (e *edit) has(name string) bool {
	for _, no := range e.names {
		if no == name {
			return true
		}
	}
	return false
}

// trailer reports whether a trailer field is passed on.
func (e *edit) trailer(name []byte) bool { return message.IsTrailer(name) && !e.takes(name) }
