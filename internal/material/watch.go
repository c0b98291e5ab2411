package material

import (
	"context"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// every is how often files are looked at. A change is reported when the file has stayed the same from one look to the
// next, so what is written in place is in use within a second.
const every = 300 * time.Millisecond

// Watcher looks at files periodically, by stat(2), which follows links. So renames, swapped links (certbot, Kubernetes) and
// network file systems are all handled alike, and no inotify instance is needed. A file system that doesn't answer holds up
// only the watcher.
type Watcher struct {
	changed func()
	ticks   <-chan time.Time

	mu    sync.Mutex
	paths []string
	known map[string]stamp // as they were at the last look
	moved bool             // and something had changed then
}

// Watch calls changed, on a goroutine of its own, when one of the files has changed, until ctx ends.
func Watch(ctx context.Context, changed func()) *Watcher {
	t := time.NewTicker(every)
	w := &Watcher{changed: changed, ticks: t.C, known: make(map[string]stamp)}
	go func() {
		defer t.Stop()
		w.run(ctx)
	}()
	return w
}

// Set sets which files are looked at.
func (w *Watcher) Set(paths []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !slices.Equal(w.paths, paths) {
		w.paths = slices.Clone(paths)
	}
}

func (w *Watcher) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.ticks:
			if w.look() {
				w.changed()
			}
		}
	}
}

// look reports whether something has changed and has stayed the same since.
func (w *Watcher) look() bool {
	w.mu.Lock()
	paths := w.paths
	w.mu.Unlock()
	now, news := make(map[string]stamp, len(paths)), false
	for _, path := range paths {
		s := stampOf(path)
		now[path] = s
		if old, seen := w.known[path]; !seen || old != s {
			news = true // a file that is new to us may have changed since it was read
		}
	}
	w.known = now
	settled := w.moved && !news
	w.moved = news
	return settled
}

// stamp is what is compared to notice that a file has changed.
type stamp struct {
	errno        unix.Errno
	dev, ino     uint64
	size         int64
	mtime, ctime unix.Timespec
	uid, mode    uint32
}

func stampOf(path string) stamp {
	var st unix.Stat_t
	for {
		switch err := unix.Stat(path, &st); err {
		case nil:
			return stamp{0, st.Dev, st.Ino, st.Size, st.Mtim, st.Ctim, st.Uid, st.Mode}
		case unix.EINTR:
		default:
			errno, _ := err.(unix.Errno)
			return stamp{errno: errno}
		}
	}
}
