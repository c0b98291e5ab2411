package config

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"reuseportd/internal/config/yaml"
)

// maxDuration bounds every duration: a year.
const maxDuration = 8760 * time.Hour

// durationInto reads a duration with its unit, least or longer.
func durationInto[T any](least time.Duration, at func(*T) *time.Duration) func(*decoder, *yaml.Node, *T) {
	return func(d *decoder, n *yaml.Node, into *T) {
		const want = "a duration with its unit"
		if n.Kind != yaml.Text {
			hint := "as in 30s, 500ms or 1m30s"
			if v, ok := n.Integer(); ok && v >= 0 {
				hint = fmt.Sprintf("write %ds", v)
			}
			d.wrong(n, hint, want)
			return
		}
		v, err := time.ParseDuration(n.Text)
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
func sizeInto[T any, I int | int64](low, high int64, at func(*T) *I) func(*decoder, *yaml.Node, *T) {
	return func(d *decoder, n *yaml.Node, into *T) {
		v, ok := size(n)
		if ok && v >= low && v <= high {
			*at(into) = I(v)
			return
		}
		hint := ""
		if !ok {
			hint = "write bytes, or a number with KiB, MiB or GiB, as in 8KiB"
			if plain, ok := strings.CutSuffix(n.Text, "/s"); ok && n.Kind == yaml.Text {
				hint = "it is a number of bytes in each second: write it without the /s, as in " + shown(plain)
			}
		}
		d.wrong(n, hint, fmt.Sprintf("a size from %s to %s", shortSize(low), shortSize(high)))
	}
}

// shown is a size as somebody meant it, if it is one.
func shown(s string) string {
	if _, ok := size(&yaml.Node{Kind: yaml.Text, Text: s}); !ok {
		return "8KiB"
	}
	return s
}

// size returns the value of a number of bytes, with a unit or without.
func size(n *yaml.Node) (int64, bool) {
	if n.Kind != yaml.Text {
		return n.Integer()
	}
	for _, u := range units {
		digits, ok := strings.CutSuffix(n.Text, u.suffix)
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
