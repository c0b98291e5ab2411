package watch

import (
	"bytes"
	"encoding/binary"
	"errors"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// writes records whether a file was moved into its place, is being written or was closed, inotify(7):
// fsnotify reports no close_write, and a move as a creation. It is read by each look and wakes nobody:
// that is left to fsnotify. A nil *writes knows nothing.
type writes struct {
	fd   int
	wds  map[string]int32 // by directory
	dirs map[int32]string
	how  origin
}

const writesMask = unix.IN_CREATE | unix.IN_MOVED_TO | unix.IN_MODIFY | unix.IN_CLOSE_WRITE | unix.IN_ONLYDIR

func newWrites() (*writes, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, err
	}
	return &writes{fd: fd, wds: make(map[string]int32), dirs: make(map[int32]string)}, nil
}

func (w *writes) close() {
	if w != nil {
		_ = unix.Close(w.fd)
	}
}

// add watches a directory; if its path has come to mean another one, that.
func (w *writes) add(dir string) {
	if w == nil {
		return
	}
	wd, err := unix.InotifyAddWatch(w.fd, dir, writesMask)
	if err != nil {
		w.remove(dir)
		return
	}
	if old, watched := w.wds[dir]; watched && old != int32(wd) {
		w.remove(dir)
	}
	w.wds[dir], w.dirs[int32(wd)] = int32(wd), dir
}

func (w *writes) remove(dir string) {
	if w == nil {
		return
	}
	if wd, watched := w.wds[dir]; watched {
		_, _ = unix.InotifyRmWatch(w.fd, uint32(wd)) // it may be gone already
		delete(w.wds, dir)
		delete(w.dirs, wd)
	}
}

// forget drops what is known: the file holds what is in use, whoever wrote it.
func (w *writes) forget() {
	if w != nil {
		w.how = unknown
	}
}

// drain reads the events so far and returns how the last of them leaves the file that entries lead
// to. The file must be read afterwards, so that a write in between shows in its content.
func (w *writes) drain(entries map[string]bool) origin {
	if w == nil {
		return unknown
	}
	buf := make([]byte, 16<<10)
	for {
		n, err := unix.Read(w.fd, buf)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || n <= 0 {
			return w.how
		}
		for b := buf[:n]; len(b) >= unix.SizeofInotifyEvent; {
			size := unix.SizeofInotifyEvent + int(binary.NativeEndian.Uint32(b[12:]))
			wd, mask := int32(binary.NativeEndian.Uint32(b)), binary.NativeEndian.Uint32(b[4:])
			name, _, _ := bytes.Cut(b[unix.SizeofInotifyEvent:size], []byte{0})
			b = b[size:]
			if mask&unix.IN_Q_OVERFLOW != 0 {
				w.how = unknown
			} else if path := filepath.Join(w.dirs[wd], string(name)); w.dirs[wd] != "" && entries[path] {
				w.event(path, mask)
			}
		}
	}
}

// event takes in an event on an entry of the chain.
func (w *writes) event(path string, mask uint32) {
	switch {
	case mask&unix.IN_MOVED_TO != 0:
		w.how = replaced
	case mask&unix.IN_CREATE != 0:
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err == nil && st.Mode&unix.S_IFMT == unix.S_IFLNK {
			w.how = replaced
		} else if mask&unix.IN_ISDIR == 0 {
			w.how = writing
		}
	case mask&unix.IN_MODIFY != 0:
		w.how = writing
	case mask&unix.IN_CLOSE_WRITE != 0 && w.how == writing:
		w.how = written
	}
}
