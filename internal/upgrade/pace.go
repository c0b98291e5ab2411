package upgrade

import (
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// pace lets through a number of things at once, and from then on so many per second.
type pace struct {
	left, most, rate float64
	at               time.Time
	out              uint64 // left out since the last that was let through
}

func newPace(most, perSecond int) *pace {
	return &pace{left: float64(most), most: float64(most), rate: float64(perSecond), at: time.Now()}
}

func (p *pace) refill() {
	now := time.Now()
	p.left = min(p.most, p.left+now.Sub(p.at).Seconds()*p.rate)
	p.at = now
}

// take reports whether one more may go through, and how many did not before it.
func (p *pace) take() (ok bool, out uint64) {
	p.refill()
	if p.left < 1 {
		p.out++
		return false, 0
	}
	p.left--
	out, p.out = p.out, 0
	return true, out
}

// wait counts one, and waits until another may come; it reports false when quit is closed
// first.
func (p *pace) wait(quit <-chan struct{}) bool {
	p.refill()
	p.left--
	if p.left >= 0 {
		return true
	}
	select {
	case <-time.After(time.Duration(-p.left / p.rate * float64(time.Second))):
		return true
	case <-quit:
		return false
	}
}

// printable has no character that a terminal would act on.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if r == utf8.RuneError || r != '\n' && !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, text)
}
