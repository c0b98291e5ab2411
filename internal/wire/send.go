package wire

import (
	"encoding/json"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Send sends one message, body as JSON, and duplicates of fds with it: the
// descriptors are only lent for the call. It waits while the peer's queue is
// full, up to the write deadline (os.ErrDeadlineExceeded). It fails with
// ErrTooLarge or ErrGone; a message is sent whole or not at all.
func (c *Conn) Send(kind Kind, body any, fds ...int) error {
	b, err := json.Marshal(body)
	if err != nil {
		return fmt.Errorf("encode %s: %w", kind, err)
	}
	if len(b) > MaxBody || len(fds) > MaxFDs {
		return fmt.Errorf("send %s: %w: %d of %d bytes, %d of %d descriptors",
			kind, ErrTooLarge, len(b), MaxBody, len(fds), MaxFDs)
	}
	h := header{version: Version, kind: kind, fds: len(fds), length: len(b)}
	p := append(h.appendTo(make([]byte, 0, headerSize+len(b))), b...)
	if err := c.send(p, fds); err != nil {
		return fmt.Errorf("send %s: %w", kind, err)
	}
	return nil
}

// send puts out one datagram, sendmsg(2).
func (c *Conn) send(p []byte, fds []int) error {
	var oob []byte
	if len(fds) > 0 {
		oob = unix.UnixRights(fds...)
	}
	var err error
	werr := c.raw.Write(func(s uintptr) bool {
		for {
			_, err = unix.SendmsgN(int(s), p, oob, nil, unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT)
			if !errors.Is(err, unix.EINTR) {
				return !errors.Is(err, unix.EAGAIN)
			}
		}
	})
	if werr != nil {
		return werr
	}
	switch {
	case errors.Is(err, unix.EPIPE), errors.Is(err, unix.ECONNRESET):
		return ErrGone
	case errors.Is(err, unix.ETOOMANYREFS):
		return fmt.Errorf("sendmsg: more descriptors in flight than RLIMIT_NOFILE allows: %w", err)
	case err != nil:
		return fmt.Errorf("sendmsg: %w", err)
	}
	return nil
}
