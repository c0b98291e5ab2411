package proxy

import (
	"bytes"
	"strings"

	"reuseportd/internal/config"
	"reuseportd/internal/service/http/message"
)

// edit is a config.HeaderEdit, compiled.
type edit struct {
	names   []string // lower case: of the fields that don't go through
	lengths uint64   // bit n: one of them has n bytes, modulo 64
	set     []byte   // whole lines

	underscored underscored // what becomes of names with underscores
}

// underscored is what becomes of fields with underscores in their names. CGI, and what goes by
// it, can't tell X_Forwarded_For from X-Forwarded-For.
type underscored uint8

const (
	underscoresPass    underscored = iota // of servers' answers
	underscoresDropped                    // of requests, if nothing else is said
	underscoresKept                       // but for those that read like a field that doesn't go through as it came
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

// newEdit compiles an edit. What says where a message ends, or is for one connection
// alone, is not to be edited, whatever the configuration has let through.
func newEdit(c *config.HeaderEdit) (e edit) {
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
		if take(f.Name) {
			e.set = append(e.set, f.Name+": "+f.Value+"\r\n"...)
		}
	}
	return e
}

// takes reports whether a field is removed or replaced. An underscore counts as the dash
// that CGI makes of both, or a client could bring back what is not to be believed of it.
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

// sameInCGI is same for names that CGI makes one of: RFC 3875 section 4.1.18.
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

// has is takes for a name in lower case.
func (e *edit) has(name string) bool {
	for _, no := range e.names {
		if no == name {
			return true
		}
	}
	return false
}

// trailer reports whether a field of a trailer section goes through.
func (e *edit) trailer(name []byte) bool { return message.IsTrailer(name) && !e.takes(name) }
