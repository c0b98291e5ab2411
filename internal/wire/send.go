package wire

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Send sends one message, with body as JSON and duplicates of fds; the descriptors stay
// the caller's. It waits while the peer's queue is full, up to the write deadline
// (os.ErrDeadlineExceeded). It can return ErrTooLarge and ErrGone; a message is sent
// whole or not at all.
func (c *Conn) Send(kind Kind, body any, fds ...int) error {
	p, err := encode(kind, body, fds)
	if err != nil {
		return err
	}
	if err := c.send(p, fds); err != nil {
		return fmt.Errorf("send %s: %w", kind, err)
	}
	return nil
}

// send sends one datagram.
func (c *Conn) send(p []byte, fds []int) error {
	var err error
	werr := c.raw.Write(func(s uintptr) bool {
		err = sendmsg(int(s), p, fds)
		return !errors.Is(err, unix.EAGAIN)
	})
	if werr != nil {
		return werr
	}
	if err != nil {
		return explainSend(err)
	}
	return nil
}
