package control

import (
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// watchHangup returns a channel that is closed when the client has closed its
// connection, or died, and the function that ends the watch. A
// client that has only closed its writing side waits for its answer.
func watchHangup(conn *net.UnixConn) (gone <-chan struct{}, stop func()) {
	hungUp, ended := make(chan struct{}), make(chan struct{})
	raw, err := conn.SyscallConn()
	if err != nil {
		return hungUp, func() {}
	}
	_ = conn.SetReadDeadline(time.Time{})
	go func() {
		defer close(ended)
		// Read calls isHungUp again at each event of the socket. What the client sends
		// meanwhile stays in the socket: it is the next request.
		if raw.Read(isHungUp) == nil {
			close(hungUp)
		}
	}()
	return hungUp, func() {
		_ = conn.SetReadDeadline(time.Unix(1, 0))
		<-ended
	}
}

// isHungUp reports whether both directions of a socket are closed, poll(2).
func isHungUp(fd uintptr) bool {
	fds := []unix.PollFd{{Fd: int32(fd)}}
	_, err := unix.Poll(fds, 0)
	return err == nil && fds[0].Revents&(unix.POLLHUP|unix.POLLERR|unix.POLLNVAL) != 0
}
