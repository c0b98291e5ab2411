package config

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// text reads text. A bare number or true is refused: whoever means text says
// so with quotes.
func (d *decoder) text(n *node) (string, bool) {
	if n.kind == text {
		return n.text, true
	}
	hint := ""
	if n.kind == boolean || n.kind == integer || n.kind == number {
		hint = fmt.Sprintf("write %q", n.text)
	}
	d.wrong(n, hint, "text")
	return "", false
}

// boolInto reads true or false.
func boolInto[T any](at func(*T) *bool) func(*decoder, *node, *T) {
	return func(d *decoder, n *node, into *T) {
		if n.kind == boolean {
			*at(into) = strings.EqualFold(n.text, "true")
			return
		}
		hint := ""
		if n.kind == text {
			switch strings.ToLower(n.text) {
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
func intInto[T any](low, high int, at func(*T) *int) func(*decoder, *node, *T) {
	return func(d *decoder, n *node, into *T) {
		if v, ok := n.integer(); ok && v >= int64(low) && v <= int64(high) {
			*at(into) = int(v)
			return
		}
		d.wrong(n, "", fmt.Sprintf("a whole number from %d to %d", low, high))
	}
}

// integer returns the value of a plain decimal number.
func (n *node) integer() (int64, bool) {
	if n.kind != integer {
		return 0, false
	}
	v, err := strconv.ParseInt(strings.ReplaceAll(n.text, "_", ""), 10, 64)
	return v, err == nil
}

// choiceInto reads one of a few words.
func choiceInto[T any, W ~string](choice []W, at func(*T) *W) func(*decoder, *node, *T) {
	words := make([]string, len(choice))
	for i, w := range choice {
		words[i] = string(w)
	}
	return func(d *decoder, n *node, into *T) {
		if n.kind == text && slices.Contains(words, n.text) {
			*at(into) = W(n.text)
			return
		}
		hint := ""
		if near := nearest(n.text, words); near != "" && n.kind == text {
			hint = "did you mean " + near + "?"
		}
		d.wrong(n, hint, sentence(words, "or"))
	}
}
