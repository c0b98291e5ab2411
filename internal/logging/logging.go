// Package logging is the error log of master and workers. Whoever logs never waits for
// the log to be written.
//
// It owns the log's format, and an Output for each file: a bounded queue and a goroutine, which alone waits
// for a pipe that nobody reads, a stopped terminal, journald or a disk. What finds no room in the queue is
// dropped and counted, and a line says so when lines can be written again. The package must never block its
// callers, or change the mode of a file that others use as well.
package logging

import (
	"bytes"
	"io"
	"time"

	"github.com/rs/zerolog"

	"reuseportd/internal/config"
)

// New makes a logger that writes to w a line for each event at or above the configured
// level.
func New(w io.Writer, c config.Log) zerolog.Logger {
	if c.Format == "text" {
		w = zerolog.ConsoleWriter{Out: w, NoColor: true, TimeFormat: time.RFC3339}
	}
	level, err := zerolog.ParseLevel(c.Level)
	if err != nil {
		level = zerolog.InfoLevel
	}
	return zerolog.New(w).Level(level).With().Timestamp().Logger()
}

// Logger makes a logger that writes to o; with adds the fields that each line has.
func (o *Output) Logger(c config.Log, with func(zerolog.Context) zerolog.Context) zerolog.Logger {
	o.mu.Lock()
	o.notice = func(lines uint64, why error) []byte {
		var b bytes.Buffer
		l := with(New(&b, config.Log{Level: "warn", Format: c.Format}).With()).Logger()
		l.Warn().Uint64("lines", lines).AnErr("last_error", why).
			Msg("lines of this log were dropped: what takes it had stopped, or could not take them")
		return b.Bytes()
	}
	o.mu.Unlock()
	return with(New(o, c).With()).Logger()
}
