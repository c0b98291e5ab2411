package watch

import "time"

// debounce waits until events have stopped for a while, but not for ever.
type debounce struct {
	quiet, most time.Duration
	after       func(time.Duration) <-chan time.Time

	c     <-chan time.Time // fires when it is time; nil while nothing happens
	since time.Time        // the first event that wasn't acted on
}

// event records one more event.
func (d *debounce) event() {
	if d.since.IsZero() {
		d.since = time.Now()
	}
	d.c = d.after(max(0, min(d.quiet, d.most-time.Since(d.since))))
}

// in makes c fire after a time, unless an event comes before.
func (d *debounce) in(wait time.Duration) { d.c = d.after(wait) }

// done records that the events so far were acted on.
func (d *debounce) done() { d.c, d.since = nil, time.Time{} }
