package yaml

import (
	"fmt"
	"strconv"
	"strings"
)

// Kind is what a YAML value looks like.
type Kind int

const (
	Invalid Kind = iota // already reported: whoever meets it says no more
	Null
	Bool
	Int
	Float // with a fraction, infinite or not a number
	Text
	Mapping
	Sequence
)

// Position is a place in a text; lines and columns count from 1.
type Position struct{ Line, Column int }

// Node is one YAML value and its place. A node may be reached by several ways,
// when the file uses aliases, but never by itself.
type Node struct {
	Kind    Kind
	Pos     Position
	Text    string // a scalar, as written but for quotes and escapes
	Entries []Entry
	Items   []*Node
}

// Entry is one `key: value` of a mapping. A mapping never holds a key twice.
type Entry struct {
	Key   string
	Pos   Position // of the key
	Value *Node
}

// Describe names a value in a message.
func (n *Node) Describe() string {
	switch n.Kind {
	case Null:
		return "empty"
	case Bool:
		return n.Text
	case Int, Float:
		return "the number " + n.Text
	case Text:
		return Quote(n.Text)
	case Mapping:
		return "a mapping"
	case Sequence:
		return fmt.Sprintf("a list of %d", len(n.Items))
	}
	return "invalid"
}

// Integer returns the value of a plain decimal number.
func (n *Node) Integer() (int64, bool) {
	if n.Kind != Int {
		return 0, false
	}
	v, err := strconv.ParseInt(strings.ReplaceAll(n.Text, "_", ""), 10, 64)
	return v, err == nil
}

// Quote returns s in quotes, cut to what a message can bear.
func Quote(s string) string {
	const most = 60
	if r := []rune(s); len(r) > most {
		s = string(r[:most]) + "…"
	}
	return strconv.Quote(s)
}
