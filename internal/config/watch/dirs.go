package watch

import (
	"fmt"
	"path/filepath"

	"github.com/fsnotify/fsnotify"
)

func newLoop(path string, o Options) *loop {
	return &loop{
		path: path, o: o, known: o.Known, dirs: map[string]bool{}, errs: make(chan error, 16),
		settle: settling{base: o.Settle}, wait: debounce{quiet: o.Quiet, most: o.MaxDelay, after: o.after},
	}
}

// failed passes an error on to OnError, once while it stays the same. It never waits.
func (l *loop) failed(err error) {
	if err.Error() == l.last {
		return
	}
	l.last = err.Error()
	select {
	case l.errs <- err:
	default: // OnError is far behind: this one adds nothing
	}
}

// report calls OnError with each error until the loop ends.
func (l *loop) report() {
	for err := range l.errs {
		l.o.OnError(err)
	}
}

// open begins to watch and looks at what is there already.
func (l *loop) open() {
	fs, err := fsnotify.NewWatcher()
	if err != nil {
		l.failed(fmt.Errorf("watch %s: %w; polling only", l.path, err))
	} else {
		l.fs = fs
		l.writes, _ = newWrites() // without it a file is taken by its times
	}
	l.look()
}

func (l *loop) close() {
	if l.fs != nil {
		l.fs.Close()
	}
	l.writes.close()
}

func (l *loop) events() <-chan fsnotify.Event {
	if l.fs == nil {
		return nil
	}
	return l.fs.Events
}

func (l *loop) errors() <-chan error {
	if l.fs == nil {
		return nil
	}
	return l.fs.Errors
}

// concerns reports whether an event is about the chain and not about a neighbour,
// such as a log file in the same directory: that wakes the watcher, but nothing is read for it.
func (l *loop) concerns(ev fsnotify.Event) bool {
	name := filepath.Clean(ev.Name)
	if l.dirs[name] && (ev.Has(fsnotify.Remove) || ev.Has(fsnotify.Rename)) {
		return true // the directory itself is gone, and its watch with it
	}
	return l.entries[name]
}

// rewatch watches the directories of the chain as it is now. It looks again
// until the chain stays the same, since it may change before it is watched.
func (l *loop) rewatch() {
	if l.fs == nil {
		return
	}
	for range 3 {
		entries, dirs := map[string]bool{}, map[string]bool{}
		for _, e := range chain(l.path) {
			entries[e], dirs[filepath.Dir(e)] = true, true
		}
		added := false
		for dir := range dirs {
			// Those that are watched already are added again: the path may lead
			// to another directory by now. Adding the same one changes nothing.
			if err := l.fs.Add(dir); err != nil {
				delete(dirs, dir)
				l.failed(fmt.Errorf("watch %s: %w", dir, err))
				continue
			}
			l.writes.add(dir)
			added = added || !l.dirs[dir]
		}
		for dir := range l.dirs {
			if !dirs[dir] {
				_ = l.fs.Remove(dir) // it may be gone
				l.writes.remove(dir)
			}
		}
		l.entries, l.dirs = entries, dirs
		if !added {
			return
		}
	}
}
