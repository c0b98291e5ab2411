package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode"
)

const (
	// maxErrors is how many errors one answer holds; the rest are counted.
	maxErrors = 20
	// maxCollected bounds the memory that a hopeless file can take.
	maxCollected = 1000
)

// report collects everything that is wrong with one source.
type report struct {
	src   *source
	errs  Errors
	warns Errors // what is allowed all the same
}

// add notes an error at p. The hint may be "".
func (r *report) add(p Position, hint, format string, args ...any) {
	r.errs = r.note(r.errs, p, hint, fmt.Sprintf(format, args...))
}

// warn notes at p what is allowed, but likely not meant.
func (r *report) warn(p Position, hint, message string) {
	r.warns = r.note(r.warns, p, hint, message)
}

func (r *report) note(to Errors, p Position, hint, message string) Errors {
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

// bad says whether anything was found wrong.
func (r *report) bad() bool { return len(r.errs) > 0 }

// err returns what was found, sorted by place, or nil. An alias makes the same
// lines be read more than once, so equal errors are told once.
func (r *report) err() error {
	if !r.bad() {
		return nil
	}
	return r.sorted(r.errs, "errors")
}

func (r *report) sorted(es Errors, what string) Errors {
	slices.SortStableFunc(es, func(a, b Error) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	es = slices.Compact(es)
	if more := len(es) - maxErrors; more > 0 {
		es = append(es[:maxErrors], Error{
			Path: r.src.path, Message: fmt.Sprintf("%d more %s are not shown", more, what),
		})
	}
	return es
}
