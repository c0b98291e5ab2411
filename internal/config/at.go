package config

import "strings"

// placed is an error that was found after parsing, shown where it belongs.
type placed struct {
	place Error
	cause error
}

func (p *placed) Error() string { return strings.TrimSuffix(p.place.Text(), "\n") }
func (p *placed) Unwrap() error { return p.cause }

// At returns an error that only binding could find, with the place in the file
// and the line there, as Parse shows its own.
func (c *Config) At(pos Position, err error) error {
	if c.Path == "" || pos.Line == 0 {
		return err
	}
	var line string
	if lines := strings.Split(string(c.Raw), "\n"); pos.Line <= len(lines) {
		line = strings.TrimSuffix(lines[pos.Line-1], "\r")
	}
	return &placed{place: Error{
		Path: c.Path, Line: pos.Line, Column: pos.Column, Source: line, Message: err.Error(),
	}, cause: err}
}
