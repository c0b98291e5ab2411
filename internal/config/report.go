package config

import (
	"cmp"
	"fmt"
	"slices"
)

const (
	// maxErrors is how many errors one answer holds; the rest are counted.
	maxErrors = 20
	// maxCollected bounds the memory that a hopeless file can take.
	maxCollected = 1000
)

// report collects everything that is wrong with one source.
type report struct {
	src  *source
	errs Errors
}

// add notes an error at p. The hint may be "".
func (r *report) add(p Position, hint, format string, args ...any) {
	if len(r.errs) >= maxCollected {
		return
	}
	p = r.src.clamp(p)
	r.errs = append(r.errs, Error{
		Path: r.src.path, Line: p.Line, Column: p.Column, Source: r.src.line(p),
		Message: fmt.Sprintf(format, args...), Hint: hint,
	})
}

// bad says whether anything was found wrong.
func (r *report) bad() bool { return len(r.errs) > 0 }

// err returns what was found, sorted by place, or nil. An alias makes the same
// lines be read more than once, so equal errors are told once.
func (r *report) err() error {
	if !r.bad() {
		return nil
	}
	slices.SortStableFunc(r.errs, func(a, b Error) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	r.errs = slices.Compact(r.errs)
	if more := len(r.errs) - maxErrors; more > 0 {
		r.errs = append(r.errs[:maxErrors], Error{
			Path: r.src.path, Message: fmt.Sprintf("%d more errors are not shown", more),
		})
	}
	return r.errs
}
