package yaml

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode"
)

const (
	// MaxErrors is how many errors one answer holds; the rest are counted.
	MaxErrors = 20
	// maxCollected bounds the memory that a hopeless file can take.
	maxCollected = 1000
)

// Report collects everything that is wrong with one text.
type Report struct {
	src   *source
	errs  Errors
	warns Errors // what is allowed all the same
}

// NewReport returns an empty one about a text, which messages say stands in path.
func NewReport(path string, raw []byte) *Report {
	return &Report{src: &source{path: path, lines: Lines(raw)}}
}

// Add records an error at p. The hint may be "".
func (r *Report) Add(p Position, hint, format string, args ...any) {
	r.errs = r.note(r.errs, p, hint, fmt.Sprintf(format, args...))
}

// Warn records at p what is allowed, but likely not meant.
func (r *Report) Warn(p Position, hint, message string) {
	r.warns = r.note(r.warns, p, hint, message)
}

func (r *Report) note(to Errors, p Position, hint, message string) Errors {
	if len(to) >= maxCollected {
		return to
	}
	p = r.src.clamp(p)
	return append(to, Error{
		Path: r.src.path, Line: p.Line, Column: p.Column, Source: r.src.line(p),
		Message: printable(message), Hint: printable(hint),
	})
}

// printable makes a message safe for a terminal and for one line of a log,
// whatever it quotes from the file.
func printable(s string) string {
	const most = 400
	if r := []rune(s); len(r) > most {
		s = string(r[:most]) + "…"
	}
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return unicode.ReplacementChar
	}, s)
}

// Bad reports whether anything was found wrong.
func (r *Report) Bad() bool { return len(r.errs) > 0 }

// Len returns how many errors there are so far, equal ones included.
func (r *Report) Len() int { return len(r.errs) }

// Err returns what was found as Errors, sorted by place, or nil. An alias makes the same
// lines be read more than once, so equal errors are kept once.
func (r *Report) Err() error {
	if !r.Bad() {
		return nil
	}
	return r.sorted(r.errs, "errors")
}

// Warnings returns them in the same way.
func (r *Report) Warnings() Errors { return r.sorted(r.warns, "warnings") }

func (r *Report) sorted(es Errors, what string) Errors {
	slices.SortStableFunc(es, func(a, b Error) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	es = slices.Compact(es)
	if more := len(es) - MaxErrors; more > 0 {
		es = append(es[:MaxErrors], Error{
			Path: r.src.path, Message: fmt.Sprintf("%d more %s are not shown", more, what),
		})
	}
	return es
}
