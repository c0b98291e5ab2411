package config

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"reuseportd/internal/config/yaml"
)

// text reads text. A bare number or true is refused: whoever means text says
// so with quotes.
func (d *decoder) text(n *yaml.Node) (string, bool) {
	if n.Kind == yaml.Text {
		return n.Text, true
	}
	hint := ""
	if n.Kind == yaml.Bool || n.Kind == yaml.Int || n.Kind == yaml.Float {
		hint = fmt.Sprintf("write %q", n.Text)
	}
	d.wrong(n, hint, "text")
	return "", false
}

// boolInto reads true or false.
func boolInto[T any](at func(*T) *bool) func(*decoder, *yaml.Node, *T) {
	return func(d *decoder, n *yaml.Node, into *T) {
		if n.Kind == yaml.Bool {
			*at(into) = strings.EqualFold(n.Text, "true")
			return
		}
		hint := ""
		if n.Kind == yaml.Text {
			switch strings.ToLower(n.Text) {
			case "yes", "on", "y", "true":
				hint = "write true"
			case "no", "off", "n", "false":
				hint = "write false"
			}
		}
		d.wrong(n, hint, "true or false")
	}
}

// intInto reads a decimal number between low and high.
func intInto[T any](low, high int, at func(*T) *int) func(*decoder, *yaml.Node, *T) {
	return func(d *decoder, n *yaml.Node, into *T) {
		if v, ok := n.Integer(); ok && v >= int64(low) && v <= int64(high) {
			*at(into) = int(v)
			return
		}
		d.wrong(n, "", fmt.Sprintf("a whole number from %d to %d", low, high))
	}
}

// choiceInto reads one of a few words.
func choiceInto[T any, W ~string](choice []W, at func(*T) *W) func(*decoder, *yaml.Node, *T) {
	words := make([]string, len(choice))
	for i, w := range choice {
		words[i] = string(w)
	}
	return func(d *decoder, n *yaml.Node, into *T) {
		if n.Kind == yaml.Text && slices.Contains(words, n.Text) {
			*at(into) = W(n.Text)
			return
		}
		hint := ""
		if near := yaml.Nearest(n.Text, words); near != "" && n.Kind == yaml.Text {
			hint = "did you mean " + near + "?"
		}
		d.wrong(n, hint, yaml.Sentence(words, "or"))
	}
}

// pathInto reads the absolute path of a file that the master reads.
func pathInto[T any](at func(*T) *string) func(*decoder, *yaml.Node, *T) {
	return func(d *decoder, n *yaml.Node, into *T) {
		s, ok := d.text(n)
		if !ok {
			return
		}
		if !filepath.IsAbs(s) || hasControl(s) {
			d.wrong(n, "write the path of a file, from / on", "an absolute path")
			return
		}
		*at(into) = filepath.Clean(s)
	}
}

// hasControl reports whether s holds a control character, NUL among them.
func hasControl(s string) bool {
	return strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f })
}

// isName reports whether s can be the name of a listener or of an upstream. Every start of a
// worker calls it, so it is no regular expression, which would be compiled each time.
func isName(s string) bool {
	for i, c := range []byte(s) {
		switch {
		case c >= 'A' && c <= 'Z', c >= 'a' && c <= 'z', c >= '0' && c <= '9':
		case i > 0 && (c == '.' || c == '_' || c == '-'):
		default:
			return false
		}
	}
	return len(s) >= 1 && len(s) <= 64
}

// nameInto reads the name of a listener or of an upstream.
func nameInto[T any](at func(*T) *string) func(*decoder, *yaml.Node, *T) {
	return func(d *decoder, n *yaml.Node, into *T) {
		s, ok := d.text(n)
		if ok && !isName(s) {
			d.wrong(n, "use letters, digits, dot, dash and underscore, at most 64", "a short name")
			return
		}
		*at(into) = s
	}
}
