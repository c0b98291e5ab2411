// Package logging makes the error log that master and workers write to, and writes it
// where nothing has to wait for that.
//
// It owns the log's format, and an Output for each file: a bounded queue and a goroutine,
// which alone waits for a pipe that nobody reads, a stopped terminal, journald or a disk. Whoever logs never
// waits. What finds no room is dropped and counted, and a line says so once the file takes lines again.
package logging

import (
	"bytes"
	"io"
	"time"

	"github.com/rs/zerolog"

	"reuseportd/internal/config"
)

// New makes a logger that writes one line for each event to w, at or above the
// configured level.
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

// Logger makes a logger of an Output; with adds what each line says.
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
