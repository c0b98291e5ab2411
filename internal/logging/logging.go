// Package logging makes the error log that master and workers write to.
//
// It owns the log's format. It must never be called from an event loop.
package logging

import (
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
