// Package failure tells of servers that failed, and of clients that were refused, so
// that a log can say it: at most once a second for each server and reason, however
// often it happens.
//
// It belongs to one event loop. It must never block, write or know a log.
package failure

import "time"

// Failure is one that is told of.
type Failure struct {
	Listener string
	Upstream string // "" if the failure is none of its servers'
	Server   string // its address as shown; "" if it is no single one's
	Reason   string // a few words out of a small set: "connection refused"
	Text     string // what more there is to say of this one
	// Suppressed is how many others with the same upstream, server and reason were not
	// told of since the last one.
	Suppressed int
}

// every is how often one server and reason is told of.
const every = int64(time.Second)

// maxKinds bounds the memory for what servers and reasons there were.
const maxKinds = 1024

// Teller tells of the failures of one service of an event loop.
type Teller struct {
	tell  func(Failure)
	kinds map[kind]*past
}

type kind struct{ upstream, server, reason string }

// past is what was told of one kind.
type past struct {
	until      int64 // when the next one may be told
	suppressed int
}

// New makes a teller. tell must not block; nil tells nobody.
func New(tell func(Failure)) *Teller {
	return &Teller{tell: tell, kinds: make(map[kind]*past)}
}

// Tell tells of a failure at a time, in nanoseconds, or counts it. It sets
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

// forget makes room: of what was told a while ago nothing is lost but a number of
// suppressed ones, and if everything is recent, all are told once more.
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
