package config

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// maxDuration bounds every duration: a year.
const maxDuration = 8760 * time.Hour

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
func choiceInto[T any](words []string, at func(*T) *string) func(*decoder, *node, *T) {
	return func(d *decoder, n *node, into *T) {
		if n.kind == text && slices.Contains(words, n.text) {
			*at(into) = n.text
			return
		}
		hint := ""
		if near := nearest(n.text, words); near != "" && n.kind == text {
			hint = "did you mean " + near + "?"
		}
		d.wrong(n, hint, sentence(words, "or"))
	}
}

// durationInto reads a duration with its unit, least or longer.
func durationInto[T any](least time.Duration, at func(*T) *time.Duration) func(*decoder, *node, *T) {
	return func(d *decoder, n *node, into *T) {
		const want = "a duration with its unit"
		if n.kind != text {
			hint := "as in 30s, 500ms or 1m30s"
			if v, ok := n.integer(); ok && v >= 0 {
				hint = fmt.Sprintf("write %ds", v)
			}
			d.wrong(n, hint, want)
			return
		}
		v, err := time.ParseDuration(n.text)
		switch {
		case err != nil:
			d.wrong(n, "the units are ms, s, m and h, as in 500ms, 30s, 1m30s or 2h", want)
		case v < least || v > maxDuration:
			d.wrong(n, "", fmt.Sprintf("from %s to %s", shortDuration(least), shortDuration(maxDuration)))
		default:
			*at(into) = v
		}
	}
}

// shortDuration writes 30s, 2h rather than 2h0m0s.
func shortDuration(v time.Duration) string {
	s := v.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

var units = []struct {
	suffix string
	bytes  int64
}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}}

// sizeInto reads a number of bytes: 8192 or 8KiB.
func sizeInto[T any, I int | int64](low, high int64, at func(*T) *I) func(*decoder, *node, *T) {
	return func(d *decoder, n *node, into *T) {
		v, ok := n.size()
		if ok && v >= low && v <= high {
			*at(into) = I(v)
			return
		}
		hint := ""
		if !ok {
			hint = "write bytes, or a number with KiB, MiB or GiB, as in 8KiB"
		}
		d.wrong(n, hint, fmt.Sprintf("a size from %s to %s", shortSize(low), shortSize(high)))
	}
}

func (n *node) size() (int64, bool) {
	if n.kind != text {
		return n.integer()
	}
	for _, u := range units {
		digits, ok := strings.CutSuffix(n.text, u.suffix)
		if !ok {
			continue
		}
		v, err := strconv.ParseUint(strings.TrimRight(digits, " "), 10, 62)
		if err != nil || v > uint64(math.MaxInt64/u.bytes) {
			return 0, false
		}
		return int64(v) * u.bytes, true
	}
	return 0, false
}

// shortSize writes 8KiB rather than 8192.
func shortSize(v int64) string {
	s := strconv.FormatInt(v, 10)
	for _, u := range units {
		if v >= u.bytes && v%u.bytes == 0 {
			s = strconv.FormatInt(v/u.bytes, 10) + u.suffix
		}
	}
	return s
}
