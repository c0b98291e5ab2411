package config

import (
	"fmt"
	"net/textproto"
	"strings"
)

// ownHeaders are written by the server, or would contradict what it writes.
var ownHeaders = map[string]string{
	"content-length":    "the server counts the body itself",
	"transfer-encoding": "the server frames the body itself",
	"connection":        "the server decides whether the connection stays open",
	"keep-alive":        "the server decides whether the connection stays open",
	"proxy-connection":  "the server decides whether the connection stays open",
	"date":              "the server sets the date itself",
	"upgrade":           "a fixed response can't change the protocol",
	"trailer":           "a fixed response has no trailers",
}

// headers reads name: value lines; a list gives a field several times. own are those
// that can't be set, with the reason.
func (d *decoder) headers(n *node, own map[string]string) []Header {
	if n.kind == null || n.kind == invalid {
		return nil
	}
	if n.kind != mapping {
		d.wrong(n, `as in {Content-Type: "text/plain"}`, "name: value lines")
		return nil
	}
	var all []Header
	seen := map[string]Position{}
	for _, e := range n.entries {
		if !d.visit(e.pos) {
			return nil
		}
		if !d.headerName(e.key, e.pos, own, "set") {
			continue
		}
		lower := strings.ToLower(e.key)
		if first, twice := seen[lower]; twice {
			d.rep.add(e.pos, fmt.Sprintf("the first is on line %d; give several values as a list", first.Line), "header %s is given twice", e.key)
			continue
		}
		seen[lower] = e.pos
		d.key = e.key
		values := []*node{e.value}
		if e.value.kind == sequence {
			values = e.value.items
		}
		for _, v := range values {
			if s, ok := d.headerValue(v); ok {
				all = append(all, Header{e.key, s})
			}
		}
	}
	return all
}

// headerName says whether name is one of a header that a configuration may set, or remove.
func (d *decoder) headerName(name string, pos Position, own map[string]string, done string) bool {
	if reason, ours := own[strings.ToLower(name)]; ours {
		d.rep.add(pos, "remove it", "%s can't be %s: %s", textproto.CanonicalMIMEHeaderKey(name), done, reason)
		return false
	}
	if !isToken(name) {
		d.rep.add(pos, "letters, digits and -, as in Cache-Control", "%s is not the name of a header (RFC 9110 section 5.1)", quote(name))
		return false
	}
	return true
}

// headerValue reads a field value (RFC 9110 section 5.5). Numbers may stand
// without quotes: they are sent as they are written.
func (d *decoder) headerValue(n *node) (string, bool) {
	if !d.visit(n.pos) {
		return "", false
	}
	if n.kind != text && n.kind != integer && n.kind != number {
		d.text(n)
		return "", false
	}
	s := n.text
	if strings.ContainsFunc(s, func(r rune) bool { return r != '\t' && r < ' ' || r == 0x7f }) {
		d.rep.add(n.pos, "keep it on one line", "the value of header %s holds a line break or another control character", d.key)
		return "", false
	}
	if s != strings.Trim(s, " \t") {
		d.rep.add(n.pos, "remove the space", "the value of header %s begins or ends with a space", d.key)
		return "", false
	}
	return s, true
}

// isToken says whether s is a token of RFC 9110 section 5.6.2.
func isToken(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
			return false
		}
		return !strings.ContainsRune("!#$%&'*+-.^_`|~", r)
	})
}
