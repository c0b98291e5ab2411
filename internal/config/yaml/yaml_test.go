package yaml

import (
	"fmt"
	"strings"
	"testing"
)

// show writes a tree on one line, each value behind its place.
func show(n *Node) string {
	at := fmt.Sprintf("%d:%d ", n.Pos.Line, n.Pos.Column)
	switch n.Kind {
	case Mapping:
		var parts []string
		for _, e := range n.Entries {
			parts = append(parts, fmt.Sprintf("%d:%d %s: %s", e.Pos.Line, e.Pos.Column, e.Key, show(e.Value)))
		}
		return at + "{" + strings.Join(parts, ", ") + "}"
	case Sequence:
		var parts []string
		for _, item := range n.Items {
			parts = append(parts, show(item))
		}
		return at + "[" + strings.Join(parts, ", ") + "]"
	}
	return at + n.Describe()
}

func TestParse(t *testing.T) {
	for text, want := range map[string]string{
		"a: 1\nb: [x, true]\n": `1:1 {1:1 a: 1:4 the number 1, 2:1 b: 2:4 [2:5 "x", 2:8 true]}`,
		"\ufeffa: ~\n":         `1:1 {1:1 a: 1:4 empty}`,
		"a: &x {c: 1.5}\nb:\n  <<: *x\n  d: 0\n": `1:1 {1:1 a: 1:7 {1:8 c: 1:11 the number 1.5}, ` +
			`2:1 b: 3:3 {4:3 d: 4:6 the number 0, 1:8 c: 1:11 the number 1.5}}`,
	} {
		rep := NewReport("x", []byte(text))
		root := Parse(rep, []byte(text), Dialect{})
		if root == nil || rep.Bad() {
			t.Errorf("%q: %v", text, rep.Err())
		} else if got := show(root); got != want {
			t.Errorf("%q:\n%s, want\n%s", text, got, want)
		}
	}
}

// TestDialect: what is typical of the caller's files is told in its words.
func TestDialect(t *testing.T) {
	words := Dialect{Empty: "nothing here", EmptyHint: "write something", Hint: func(line string) string {
		if strings.Contains(line, "port") {
			return "about ports"
		}
		return ""
	}}
	for text, want := range map[string]string{
		"# only\n":       "x:1:1: nothing here (write something)",
		"port: [a\n":     "about ports",
		"other: [a\n":    "x:1:8: not valid YAML",
		"a: 1\na: 2\n":   `x:2:1: duplicate key "a" (it was first given on line 1)`,
		"a: !!str 1\n":   "YAML tags such as !!str are not used here",
		"a: *none\n":     "no anchor named \"none\" was set above",
		"a: 1\n---\nb: ": "a second YAML document begins here",
	} {
		rep := NewReport("x", []byte(text))
		Parse(rep, []byte(text), words)
		if err := rep.Err(); err == nil || !strings.Contains(err.(Errors)[0].Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}
