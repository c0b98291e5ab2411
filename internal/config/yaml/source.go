package yaml

import (
	"strings"
	"unicode"
)

// source is a text, cut into lines for messages.
type source struct {
	path  string
	lines []string
}

// Lines cuts a text into lines, without their endings. There is at least one.
func Lines(raw []byte) []string {
	lines := strings.Split(string(raw), "\n")
	if n := len(lines); n > 1 && lines[n-1] == "" {
		lines = lines[:n-1]
	}
	for i := range lines {
		lines[i] = strings.TrimSuffix(lines[i], "\r")
	}
	return lines
}

// clamp moves a position into the text, so that a message never points at
// nothing, whatever the YAML parser said. One column past the end is allowed.
func (s *source) clamp(p Position) Position {
	p.Line = min(max(p.Line, 1), len(s.lines))
	p.Column = min(max(p.Column, 1), len([]rune(s.lines[p.Line-1]))+1)
	return p
}

// line returns the line that p is in.
func (s *source) line(p Position) string { return s.lines[p.Line-1] }

// maxExcerpt is how many characters of a long line a message shows.
const maxExcerpt = 100

// excerpt returns what a message shows of a line, and the white space that
// puts a caret below the column. Tabs are kept in both, so that they stay
// aligned; other characters that don't print become U+FFFD.
func excerpt(line string, column int) (shown, indent string) {
	runes := []rune(line)
	at := min(max(column-1, 0), len(runes))
	from := 0
	if len(runes) > maxExcerpt && at > maxExcerpt/2 {
		from = at - maxExcerpt/2
	}
	to := min(len(runes), from+maxExcerpt)

	var s, in strings.Builder
	if from > 0 {
		s.WriteString("…")
		in.WriteString(" ")
	}
	for i, r := range runes[from:to] {
		switch {
		case r == '\t':
		case !unicode.IsPrint(r):
			r = unicode.ReplacementChar
		}
		s.WriteRune(r)
		if i >= at-from {
			continue
		}
		if r != '\t' {
			r = ' '
		}
		in.WriteRune(r)
	}
	if to < len(runes) {
		s.WriteString("…")
	}
	return s.String(), in.String()
}
