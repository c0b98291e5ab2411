package config

import (
	"fmt"
	"strconv"
)

// kind is what a YAML value looks like.
type kind int

const (
	invalid kind = iota // already reported; whoever meets it says nothing
	null
	boolean
	integer
	number // with a fraction, infinite or not a number
	text
	mapping
	sequence
)

// node is one YAML value and its place. A node may be reached by several ways,
// when the file uses aliases, but never by itself.
type node struct {
	kind    kind
	pos     Position
	text    string // a scalar, as written but for quotes and escapes
	quoted  bool   // the scalar was in quotes or a block
	entries []entry
	items   []*node
}

// entry is one `key: value` of a mapping. A mapping never holds a key twice.
type entry struct {
	key   string
	pos   Position // of the key
	value *node
}

// describe names a value in a message.
func (n *node) describe() string {
	switch n.kind {
	case null:
		return "empty"
	case boolean:
		return n.text
	case integer, number:
		return "the number " + n.text
	case text:
		return quote(n.text)
	case mapping:
		return "a mapping"
	case sequence:
		return fmt.Sprintf("a list of %d", len(n.items))
	}
	return "invalid"
}

// quote returns s in quotes, cut to what a message can bear.
func quote(s string) string {
	const most = 60
	if r := []rune(s); len(r) > most {
		s = string(r[:most]) + "…"
	}
	return strconv.Quote(s)
}
