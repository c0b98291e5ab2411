package yaml

import (
	"fmt"
	"strings"
)

// Error is one thing that is wrong with a file.
type Error struct {
	// Path is the file, as messages name it.
	Path string
	// Line and Column count from 1, Column in characters. Line is 0 where an
	// error has no place, such as a file that can't be read.
	Line, Column int
	// Source is the line as it stands in the file, without its line ending.
	Source string
	// Message says what is wrong, Hint what would be right; Hint may be "".
	Message, Hint string
}

// Error returns the error on one line: `web.yaml:3:5: message (hint)`.
func (e Error) Error() string {
	if e.Hint == "" {
		return e.where() + e.Message
	}
	return e.where() + e.Message + " (" + e.Hint + ")"
}

// where is the prefix of a message, in the form that editors can jump to.
func (e Error) where() string {
	if e.Line == 0 {
		return e.Path + ": "
	}
	return fmt.Sprintf("%s:%d:%d: ", e.Path, e.Line, e.Column)
}

// Text returns the error for a person: the message, the line, a caret below
// the column, and the hint.
func (e Error) Text() string {
	var b strings.Builder
	b.WriteString(e.where() + e.Message + "\n")
	if e.Line > 0 {
		line, caret := excerpt(e.Source, e.Column)
		b.WriteString("    " + line + "\n    " + caret + "^\n")
	}
	if e.Hint != "" {
		b.WriteString("  " + e.Hint + "\n")
	}
	return b.String()
}

// Errors is everything that was found wrong with one file, in the
// order of the file. It is never empty when returned as an error.
type Errors []Error

// Error returns all errors for a person, several lines each.
func (es Errors) Error() string {
	parts := make([]string, len(es))
	for i, e := range es {
		parts[i] = strings.TrimSuffix(e.Text(), "\n")
	}
	return strings.Join(parts, "\n")
}

// Unwrap lets errors.Is and errors.As reach each error.
func (es Errors) Unwrap() []error {
	all := make([]error, len(es))
	for i, e := range es {
		all[i] = e
	}
	return all
}
