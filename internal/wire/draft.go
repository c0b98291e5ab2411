package wire

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Draft is a message that is to be sent later. It holds duplicates of its descriptors, so
// the caller may close its own.
type Draft struct {
	to   *Conn
	kind Kind
	text []byte
	fds  []int
}

// Draft makes a message without sending it. It returns ErrTooLarge if the message is too
// large.
func (c *Conn) Draft(kind Kind, body any, fds ...int) (*Draft, error) {
	text, err := encode(kind, body, fds)
	if err != nil {
		return nil, err
	}
	d := &Draft{to: c, kind: kind, text: text}
	for _, fd := range fds {
		dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
		if err != nil {
			d.Close()
			return nil, fmt.Errorf("send %s: duplicate a descriptor: %w", kind, err)
		}
		d.fds = append(d.fds, dup)
	}
	return d, nil
}

// Send sends the message like Conn.Send. The Draft can't be used again.
func (d *Draft) Send() error {
	defer d.Close()
	if err := d.to.send(d.text, d.fds); err != nil {
		return fmt.Errorf("send %s: %w", d.kind, err)
	}
	return nil
}

// Close closes the duplicates. Closing twice is harmless.
func (d *Draft) Close() {
	closeFDs(d.fds)
	d.fds = nil
}
