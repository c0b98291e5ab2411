package config

import (
	"context"
	"fmt"
	"time"

	"github.com/fsnotify/fsnotify"
)

// Change is a content of the configuration file that differs from the last
// one known. It is not parsed: it may be wrong.
type Change struct {
	SHA256 string
	Raw    []byte
}

// WatchOptions are the times of a Watcher. Zero takes the default.
type WatchOptions struct {
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
	// OnError hears what hinders watching; polling goes on. It is called from a
	// goroutine of its own, so it may wait for the one that calls SetKnown. It
	// may be nil.
	OnError func(error)

	after func(time.Duration) <-chan time.Time // tests only
	poll  <-chan time.Time                     // tests only
}

// Watcher tells when the content of a file changes.
type Watcher struct {
	// C receives changes, only the latest when the reader is slow. It is closed
	// when the context ends.
	C <-chan Change

	known  chan string
	opened chan struct{} // closed when the file is watched; for tests
	done   <-chan struct{}
}

// SetKnown says which content is in use now, such as after a reload by hand:
// once it has returned the watcher doesn't tell of it, and tells of any other. It doesn't wait for a watcher that
// waits for the file. It must not be called by several goroutines at a time.
func (w *Watcher) SetKnown(sha256 string) {
	for {
		select {
		case w.known <- sha256:
			return
		case <-w.known: // the latest counts
		case <-w.done:
			return
		}
	}
}

// Watch watches a file until ctx ends. A file that is missing, empty or
// unreadable is no change and ends nothing.
func Watch(ctx context.Context, path string, o WatchOptions) *Watcher {
	c := make(chan Change)
	w := &Watcher{C: c, known: make(chan string, 1), opened: make(chan struct{}), done: ctx.Done()}
	l := newWatchLoop(path, o.withDefaults())
	l.out, l.setKnown = c, w.known
	go l.tell()
	go l.run(ctx, w.opened)
	return w
}

func (o WatchOptions) withDefaults() WatchOptions {
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

// watchLoop is the state of one Watcher; only run touches it.
type watchLoop struct {
	path     string
	o        WatchOptions
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
func (l *watchLoop) run(ctx context.Context, opened chan<- struct{}) {
	defer close(l.out)
	defer close(l.errs)
	defer l.close()
	l.open() // which can take long, as all that asks for the file
	close(opened)
	poll := l.o.poll
	if poll == nil {
		t := time.NewTicker(l.o.Poll)
		defer t.Stop()
		poll = t.C
	}
	for {
		select {
		case hash := <-l.setKnown: // before what it is about is told of
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
			l.fail(fmt.Errorf("watch %s: %w", l.path, err))
			l.look() // events may have been lost in an overflow
		case <-l.wait.c:
			l.wait.done()
			l.look()
		case <-poll:
			l.look()
		case out <- change:
			l.known, l.pending = change.SHA256, nil
			l.settled(change.Raw)
		case hash := <-l.setKnown:
			l.know(hash)
		}
	}
}

// know is told which content is in use.
func (l *watchLoop) know(hash string) {
	l.pending = nil
	if hash != l.known {
		l.known, l.inUse = hash, nil
	}
	l.look()
}

// offer returns where to send which change; a nil channel when there is none.
func (l *watchLoop) offer() (chan<- Change, Change) {
	if l.pending == nil {
		return nil, Change{}
	}
	return l.out, *l.pending
}

// look reads the file and makes its content pending when it is news, and whole. The
// directories are watched first, so that a change after reading is an event.
func (l *watchLoop) look() {
	l.rewatch()
	how := l.writes.drain(l.entries)
	raw, err := readFile(l.path)
	if err != nil {
		return // being replaced, or gone: whatever comes will be seen
	}
	l.pending = nil
	hash := Hash(raw)
	if hash == l.known {
		l.settled(raw)
		return
	}
	if again := l.settle.look(time.Now(), raw, l.inUse, how); again > 0 {
		l.tellOfWriting()
		l.wait.in(min(max(again, l.o.Quiet), l.o.MaxDelay)) // a close alone wakes nobody
		return
	}
	if len(raw) > 0 {
		l.pending = &Change{SHA256: hash, Raw: raw}
	}
}

// settled says that the file holds what is in use.
func (l *watchLoop) settled(raw []byte) {
	l.inUse = raw
	l.settle.reset()
	l.writes.forget()
}

// tellOfWriting says that a file is not taken as it is written to without an end.
func (l *watchLoop) tellOfWriting() {
	if l.settle.lasts() > 3*mostBy*l.settle.base {
		l.fail(fmt.Errorf("%s is written to again and again, and not taken before it is left alone: "+
			"write a new file beside it and rename that, or run `reuseportd reload`", l.path))
	}
}
