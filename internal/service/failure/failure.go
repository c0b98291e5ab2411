// Package failure reports servers that failed and clients that were refused, for the log:
// at most once a second for each server and reason, however often it happens.
//
// It owns the counts of reports that were suppressed. A Teller belongs to one event loop.
// It must never block, write, or know a log.
package failure

import "time"

// Failure is one report.
type Failure struct {
	Listener string
	Upstream string // "" if no upstream is involved
	Server   string // its address as shown; "" if no single server failed
	Reason   string // a few words from a small set, such as "connection refused"
	Text     string // details of this one
	// Suppressed is how many others with the same upstream, server and reason were not
	// reported since the last one.
	Suppressed int
}

// every is the least time between two reports of one server and reason, in nanoseconds.
const every = int64(time.Second)

// maxKinds bounds the number of servers and reasons that are remembered.
const maxKinds = 1024

// Teller reports the failures of one service of an event loop.
type Teller struct {
	tell  func(Failure)
	kinds map[kind]*past
}

type kind struct{ upstream, server, reason string }

// past is what is remembered of the reports of one kind.
type past struct {
	until      int64 // when the next one may be reported
	suppressed int
}

// New makes a teller, which reports to tell. tell must not block; nil discards the
// reports.
func New(tell func(Failure)) *Teller {
	return &Teller{tell: tell, kinds: make(map[kind]*past)}
}

// Tell reports a failure at a time, in nanoseconds, or counts it as suppressed. It sets
// f.Suppressed.
func (t *Teller) Tell(now int64, f Failure) {
	if t.tell == nil {
		return
	}
	k := kind{f.Upstream, f.Server, f.Reason}
	p := t.kinds[k]
	switch {
	case p == nil:
		if len(t.kinds) >= maxKinds {
			t.forget(now)
		}
		p = new(past)
		t.kinds[k] = p
	case now < p.until:
		p.suppressed++
		return
	}
	f.Suppressed = p.suppressed
	*p = past{until: now + every}
	t.tell(f)
}

// forget makes room. It removes kinds that were reported a while ago, with their number
// of suppressed ones; if all are recent it removes all, so that each is reported once
// more.
func (t *Teller) forget(now int64) {
	for k, p := range t.kinds {
		if now >= p.until {
			delete(t.kinds, k)
		}
	}
	if len(t.kinds) >= maxKinds {
		clear(t.kinds)
	}
}
