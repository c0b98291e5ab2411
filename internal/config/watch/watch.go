// Package watch reports when the content of a file changes: written in place, replaced, or meant by another symlink on
// its way, as certbot and Kubernetes do.
//
// It owns when to look and when a file is whole; what reading and comparing mean is its caller's (Options.Read). It
// never parses a content, and never makes its caller wait for a file system: one goroutine does all reading.
//
// How it works: the directories of all entries on the way to the file are watched (chain.go, dirs.go), which wakes the
// watcher once it has been quiet for a while (debounce.go); it reads, and compares hashes. Content that is new is held
// back until it is likely whole (settle.go), for which a second inotify instance reports how it was written (writes.go).
// A poll now and then finds what showed no event.
package watch

import (
	"context"
	"fmt"
	"time"

	"github.com/fsnotify/fsnotify"
)

// Change is a content of the file that differs from the last one known. It may be anything: nobody has parsed it.
type Change struct {
	Hash    string
	Content []byte
}

// Options say what a Watcher reads and when. A time of zero takes the default.
type Options struct {
	// Read returns the content of the file and its hash. It may take as long as the file system does; an error is no
	// change.
	Read func(path string) (content []byte, hash string, err error)
	// Known is the hash of the content that is in use already.
	Known string
	// Quiet is how long the file must be left alone before it is read (100 ms).
	Quiet time.Duration
	// MaxDelay bounds the wait for quiet (500 ms).
	MaxDelay time.Duration
	// Settle is how long a file that was written in place must be left alone before it is
	// taken (1 s): up to ten times as long while it may be half written, see settling.
	Settle time.Duration
	// Poll is how often the file is read without any event (10 s): a bind
	// mount or a network file system may show none.
	Poll time.Duration
	// OnError is told what hinders watching; polling goes on. It is called from a
	// goroutine of its own, so it may wait for the one that calls SetKnown. It
	// may be nil.
	OnError func(error)

	after func(time.Duration) <-chan time.Time // tests only
	poll  <-chan time.Time                     // tests only
}

// Watcher reports when the content of a file changes.
type Watcher struct {
	// C receives changes, only the latest when the reader is slow. It is closed
	// when the context ends.
	C <-chan Change

	known  chan string
	opened chan struct{} // closed when the file is watched; for tests
	done   <-chan struct{}
}

// SetKnown says which content is in use, such as after a reload by hand: once it has returned, that content is no
// change, and any other is. It doesn't wait for a file system. It must not be called by several goroutines at a time.
func (w *Watcher) SetKnown(hash string) {
	for {
		select {
		case w.known <- hash:
			return
		case <-w.known: // the latest counts
		case <-w.done:
			return
		}
	}
}

// New watches a file until ctx ends. A file that is missing, empty or
// unreadable is no change and ends nothing.
func New(ctx context.Context, path string, o Options) *Watcher {
	c := make(chan Change)
	w := &Watcher{C: c, known: make(chan string, 1), opened: make(chan struct{}), done: ctx.Done()}
	l := newLoop(path, o.withDefaults())
	l.out, l.setKnown = c, w.known
	go l.report()
	go l.run(ctx, w.opened)
	return w
}

func (o Options) withDefaults() Options {
	set := func(v *time.Duration, to time.Duration) {
		if *v <= 0 {
			*v = to
		}
	}
	set(&o.Quiet, 100*time.Millisecond)
	set(&o.MaxDelay, 500*time.Millisecond)
	set(&o.Settle, time.Second)
	set(&o.Poll, 10*time.Second)
	if o.OnError == nil {
		o.OnError = func(error) {}
	}
	if o.after == nil {
		o.after = time.After
	}
	return o
}

// loop is the state of one Watcher; only run touches it.
type loop struct {
	path     string
	o        Options
	known    string
	out      chan<- Change
	setKnown <-chan string

	pending *Change // read, not yet taken by the reader
	inUse   []byte  // what the file held when it was last in use, nil if it was not seen
	settle  settling
	wait    debounce

	fs      *fsnotify.Watcher // nil when the machine has no inotify left
	writes  *writes           // likewise
	entries map[string]bool   // the chain, as last computed
	dirs    map[string]bool   // directories that are watched

	errs chan error // on the way to OnError
	last string     // the last of them
}

// run is the whole life of a watcher.
func (l *loop) run(ctx context.Context, opened chan<- struct{}) {
	defer close(l.out)
	defer close(l.errs)
	defer l.close()
	l.open() // takes as long as the file system does
	close(opened)
	poll := l.o.poll
	if poll == nil {
		t := time.NewTicker(l.o.Poll)
		defer t.Stop()
		poll = t.C
	}
	for {
		select {
		case hash := <-l.setKnown: // before the change that it is about is offered
			l.know(hash)
		default:
		}
		out, change := l.offer()
		select {
		case <-ctx.Done():
			return
		case ev := <-l.events():
			if l.concerns(ev) {
				l.wait.event()
			}
		case err := <-l.errors():
			l.failed(fmt.Errorf("watch %s: %w", l.path, err))
			l.look() // events may have been lost in an overflow
		case <-l.wait.c:
			l.wait.done()
			l.look()
		case <-poll:
			l.look()
		case out <- change:
			l.known, l.pending = change.Hash, nil
			l.settled(change.Content)
		case hash := <-l.setKnown:
			l.know(hash)
		}
	}
}

// know takes in which content is in use.
func (l *loop) know(hash string) {
	l.pending = nil
	if hash != l.known {
		l.known, l.inUse = hash, nil
	}
	l.look()
}

// offer returns where to send which change; a nil channel when there is none.
func (l *loop) offer() (chan<- Change, Change) {
	if l.pending == nil {
		return nil, Change{}
	}
	return l.out, *l.pending
}

// look reads the file and makes its content pending if it is new and whole. The
// directories are watched first, so that a change after reading is an event.
func (l *loop) look() {
	l.rewatch()
	how := l.writes.drain(l.entries)
	raw, hash, err := l.o.Read(l.path)
	if err != nil {
		return // being replaced, or gone: whatever comes will be seen
	}
	l.pending = nil
	if hash == l.known {
		l.settled(raw)
		return
	}
	if again := l.settle.look(time.Now(), raw, l.inUse, how); again > 0 {
		l.reportWriting()
		l.wait.in(min(max(again, l.o.Quiet), l.o.MaxDelay)) // a close alone wakes nobody
		return
	}
	if len(raw) > 0 {
		l.pending = &Change{Hash: hash, Content: raw}
	}
}

// settled records that the file holds what is in use.
func (l *loop) settled(raw []byte) {
	l.inUse = raw
	l.settle.reset()
	l.writes.forget()
}

// reportWriting reports a file that is not taken because it is written to without an end.
func (l *loop) reportWriting() {
	if l.settle.lasts() > 3*mostBy*l.settle.base {
		l.failed(fmt.Errorf("%s is written to again and again, and not taken before it is left alone: "+
			"write a new file beside it and rename that, or run `reuseportd reload`", l.path))
	}
}
