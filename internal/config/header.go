package config

import (
	"fmt"
	"net/textproto"
	"strings"

	"reuseportd/internal/config/yaml"
)

// Header is one field of a response, name and value already checked against
// RFC 9110 section 5.
type Header struct{ Name, Value string }

// headers reads name: value lines; a list gives a field several times. own are the
// names that can't be set, each with the reason.
func (d *decoder) headers(n *yaml.Node, own map[string]string) []Header {
	if n.Kind == yaml.Null || n.Kind == yaml.Invalid {
		return nil
	}
	if n.Kind != yaml.Mapping {
		d.wrong(n, `as in {Content-Type: "text/plain"}`, "name: value lines")
		return nil
	}
	var all []Header
	seen := map[string]Position{}
	for _, e := range n.Entries {
		if !d.visit(e.Pos) {
			return nil
		}
		if !d.headerName(e.Key, e.Pos, own, "set") {
			continue
		}
		lower := strings.ToLower(e.Key)
		if first, twice := seen[lower]; twice {
			d.rep.Add(e.Pos, fmt.Sprintf("the first is on line %d; give several values as a list", first.Line), "header %s is given twice", e.Key)
			continue
		}
		seen[lower] = e.Pos
		d.key = e.Key
		values := []*yaml.Node{e.Value}
		if e.Value.Kind == yaml.Sequence {
			values = e.Value.Items
		}
		for _, v := range values {
			if s, ok := d.headerValue(v); ok {
				all = append(all, Header{e.Key, s})
			}
		}
	}
	return all
}

// headerNames reads the names of headers.
func (d *decoder) headerNames(n *yaml.Node, own map[string]string) []string {
	items, ok := d.items(n, "as in [Cookie]")
	if !ok {
		return nil
	}
	var names []string
	for _, item := range items {
		if s, ok := d.text(item); ok && d.headerName(s, item.Pos, own, "removed") {
			names = append(names, s)
		}
	}
	return names
}

// headerName reports whether a configuration may set or remove the header name; done is the word for it in messages.
func (d *decoder) headerName(name string, pos Position, own map[string]string, done string) bool {
	if reason, ours := own[strings.ToLower(name)]; ours {
		d.rep.Add(pos, "remove it", "%s can't be %s: %s", textproto.CanonicalMIMEHeaderKey(name), done, reason)
		return false
	}
	if !isToken(name) {
		d.rep.Add(pos, "letters, digits and -, as in Cache-Control", "%s is not the name of a header (RFC 9110 section 5.1)", yaml.Quote(name))
		return false
	}
	return true
}

// headerValue reads a field value (RFC 9110 section 5.5). Numbers may stand
// without quotes: they are sent as they are written.
func (d *decoder) headerValue(n *yaml.Node) (string, bool) {
	if !d.visit(n.Pos) {
		return "", false
	}
	if n.Kind != yaml.Text && n.Kind != yaml.Int && n.Kind != yaml.Float {
		d.text(n)
		return "", false
	}
	s := n.Text
	if strings.ContainsFunc(s, func(r rune) bool { return r != '\t' && r < ' ' || r == 0x7f }) {
		d.rep.Add(n.Pos, "keep it on one line", "the value of header %s holds a line break or another control character", d.key)
		return "", false
	}
	if s != strings.Trim(s, " \t") {
		d.rep.Add(n.Pos, "remove the space", "the value of header %s begins or ends with a space", d.key)
		return "", false
	}
	return s, true
}

// isToken reports whether s is a token of RFC 9110 section 5.6.2.
func isToken(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
			return false
		}
		return !strings.ContainsRune("!#$%&'*+-.^_`|~", r)
	})
}
