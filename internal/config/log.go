package config

import (
	"path/filepath"

	"reuseportd/internal/config/yaml"
)

// Log says what the error log holds and where it goes.
type Log struct {
	Level  string // debug | info | warn | error
	Format string // json | text
	File   string // "" is standard error
}

var defaultLog = Log{Level: "info", Format: "json"}

var logObject = object[Log]{at: "log", what: "log", fields: []field[Log]{
	{"level", choiceInto([]string{"debug", "info", "warn", "error"}, func(l *Log) *string { return &l.Level })},
	{"format", choiceInto([]string{"json", "text"}, func(l *Log) *string { return &l.Format })},
	{"file", logFileInto("leave the key out for standard error", func(l *Log) *string { return &l.File })},
}}

// logFileInto reads the path of a log file. dash says what to write when the
// value isn't a path.
func logFileInto[T any](dash string, at func(*T) *string) func(*decoder, *yaml.Node, *T) {
	return func(d *decoder, n *yaml.Node, into *T) {
		s, ok := d.text(n)
		if !ok {
			return
		}
		if !filepath.IsAbs(s) || hasControl(s) {
			d.wrong(n, dash, "an absolute path")
			return
		}
		*at(into) = filepath.Clean(s)
		if d.host != nil {
			if bad := d.host.checkLogFile(*at(into)); bad != nil {
				d.rep.Add(n.Pos, bad.hint, "%s", bad.message)
			}
		}
	}
}

func (h *host) checkLogFile(path string) *flaw {
	if bad := h.checkDir(filepath.Dir(path), "the directory of the log file"); bad != nil {
		return bad
	}
	if info, err := h.stat(path); err == nil && info.IsDir() {
		return &flaw{path + " is a directory", "name a file"}
	}
	return nil
}
