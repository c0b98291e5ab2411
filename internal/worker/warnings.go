package worker

import (
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

const (
	// warningsEvery is the time in which at most warningsMost warnings are logged.
	warningsEvery = 10 * time.Second
	warningsMost  = 50
	// spokenMost bounds a text from another worker, in bytes.
	spokenMost = 512
)

// warnings bounds the lines that other workers make this one write.
type warnings struct {
	since time.Time
	n     int
	left  uint64 // warnings left out since the last line
}

// take reports whether a line may be logged, and how many were left out before it.
func (w *warnings) take(now time.Time) (ok bool, left uint64) {
	if now.Sub(w.since) >= warningsEvery {
		w.since, w.n = now, 0
	}
	if w.n == warningsMost {
		w.left++
		return false, 0
	}
	w.n++
	left, w.left = w.left, 0
	return true, left
}

// spoken returns a text from another worker, shortened and with printable characters
// only.
func spoken(text string) string {
	if len(text) > spokenMost {
		text = text[:spokenMost] + "…"
	}
	return strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, text)
}
