package transport

import (
	"slices"
	"sync/atomic"
	"time"

	"reuseportd/internal/eventloop"
	"reuseportd/internal/tls/handshake"
)

// stage is how far a handshake has come.
//
//	fresh ──▶ waits ──▶ shakes ◀─▶ signs
//	  └──────────────────▲│           │
//	                      ▼           ▼ (if it is freed meanwhile, when the signature is made)
//	                     over        over
type stage uint8

const (
	fresh  stage = iota // its hello isn't whole
	waits               // for a place
	shakes              // has a place
	signs               // has a place, and a signature is being made on another goroutine
	over                // done, failed, or its connection has ended
)

// shaking is a connection before its keys.
type shaking struct {
	t     *Conn
	shake *handshake.Shake // nil before it has a place
	since int64            // when the client was last answered, or got the place, nanoseconds
	at    int              // in places.active
	stage stage
	vain  atomic.Bool // nobody wants the signature any more
}

// places are those for handshakes under way at the same time. Who finds none free waits, and gets one in its turn.
type places struct {
	loop *eventloop.Loop
	most int
	// active have a place. Invariant: they shake or sign, or are over while their signature is still being made. So
	// there are never more goroutines than places.
	active  []*shaking
	queue   []*shaking // that wait, and some that have ended meanwhile
	waiting int        // in queue
	asked   bool       // makePlaces is to be called
}

// enter reports whether a handshake gets a place at once; otherwise it waits.
func (p *places) enter(h *shaking) bool {
	if p.waiting == 0 && len(p.active) < p.most {
		p.place(h)
		return true
	}
	h.stage = waits
	p.queue = append(p.queue, h)
	p.waiting++
	p.loop.Count().ShakesWaited++
	p.makePlacesSoon()
	return false
}

func (p *places) place(h *shaking) {
	h.stage, h.since, h.at = shakes, p.loop.Monotonic(), len(p.active)
	p.active = append(p.active, h)
}

// free ends a handshake, at whatever stage. A place is free for others when no signature is being made in it.
func (p *places) free(h *shaking) {
	was := h.stage
	h.stage = over
	if h.shake != nil {
		h.shake.Close()
		h.shake = nil
	}
	switch was {
	case waits:
		if p.waiting--; len(p.queue) > 2*p.waiting+32 {
			p.queue = slices.DeleteFunc(p.queue, func(h *shaking) bool { return h.stage != waits })
		}
	case shakes:
		p.vacate(h)
	case signs:
		h.vain.Store(true)
	}
}

// vacate takes the place of a handshake, and gives it to the next that waits.
func (p *places) vacate(h *shaking) {
	last := len(p.active) - 1
	p.active[h.at] = p.active[last]
	p.active[h.at].at = h.at
	p.active[last] = nil
	p.active = p.active[:last]
	for p.waiting > 0 && len(p.active) < p.most {
		next := p.queue[0]
		p.queue[0] = nil
		if p.queue = p.queue[1:]; next.stage == waits {
			p.waiting--
			p.place(next)
			next.t.c.Wake()
		}
	}
	if p.waiting == 0 {
		p.queue = nil
	}
}

// patience is how long a client may take to answer while others wait for its place.
const patience = time.Second

// makePlacesSoon has makePlaces called when somebody may have stood still for too long.
func (p *places) makePlacesSoon() {
	if !p.asked {
		p.asked = true
		time.AfterFunc(patience/2, func() { p.loop.Post(p.makePlaces) })
	}
}

// makePlaces ends handshakes that stand still, as many as others wait for.
func (p *places) makePlaces() {
	p.asked = false
	n, now := p.waiting, p.loop.Monotonic()
	for i := len(p.active) - 1; i >= 0 && n > 0; i-- { // whoever gets a place here comes behind i, or in the place of one that does
		if h := p.active[i]; h.stage == shakes && now-h.since >= int64(patience) {
			h.t.fail(errStalled)
			h.t.c.Close()
			n--
		}
	}
	if p.waiting > 0 {
		p.makePlacesSoon()
	}
}

// signing has room for one signature at a time. A worker has one P more than it has loops: if more goroutines computed, a
// loop that has woken up would wait for all of them.
var signing = make(chan struct{}, 1)

// sign makes a signature on a goroutine of its own, unless its client has gone before that begins.
func (p *places) sign(h *shaking) {
	h.stage = signs
	beside(p.loop, h.shake.Job(), &h.vain, func() {
		if h.stage == over {
			p.vacate(h)
			return
		}
		h.stage = shakes
		h.since = p.loop.Monotonic()
		h.t.c.Wake()
	})
}

// beside does a job on a goroutine of its own, unless it is in vain before it begins. Then done is called on the loop's.
func beside(l *eventloop.Loop, job func(), vain *atomic.Bool, done func()) {
	go func() {
		signing <- struct{}{}
		if !vain.Load() {
			job()
		}
		<-signing
		l.Post(done)
	}()
}
