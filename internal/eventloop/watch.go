package eventloop

import "golang.org/x/sys/unix"

// watcher is a descriptor that is no connection.
type watcher struct {
	fd int32
	f  func()
}

// Watch has f called whenever a descriptor has something to read, until Unwatch.
// The descriptor stays the caller's.
func (l *Loop) Watch(fd int, f func()) error {
	if err := l.control(unix.EPOLL_CTL_ADD, int32(fd), unix.EPOLLIN, special); err != nil {
		return err
	}
	l.watchers = append(l.watchers, watcher{int32(fd), f})
	return nil
}

// Unwatch ends Watch. It must come before the descriptor is closed.
func (l *Loop) Unwatch(fd int) {
	for i, w := range l.watchers {
		if w.fd == int32(fd) {
			l.watchers = append(l.watchers[:i:i], l.watchers[i+1:]...) // dispatch may be among them
			_ = l.control(unix.EPOLL_CTL_DEL, w.fd, 0, 0)
			return
		}
	}
}
