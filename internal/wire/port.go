package wire

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"golang.org/x/sys/unix"
)

// ErrWouldBlock is returned by a Port that has nothing to read, or whose peer
// reads too slowly.
var ErrWouldBlock = errors.New("would block")

// portBody bounds the body of a message that a Port receives, in bytes: loops send each
// other nothing long.
const portBody = 16 << 10

// Port is one end of a channel for use by an event loop: nothing waits, and only one
// goroutine may use it.
type Port struct {
	fd       int
	buf, oob []byte
}

// NewPort makes a Port from a received descriptor. It takes over the descriptor, and
// closes it if it fails.
func NewPort(fd int) (*Port, error) {
	if err := checkSocket(fd); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("descriptor %d is no channel: %w", fd, err)
	}
	unix.CloseOnExec(fd)
	if err := unix.SetNonblock(fd, true); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("channel: set O_NONBLOCK: %w", err)
	}
	return &Port{fd: fd, buf: make([]byte, headerSize+portBody), oob: make([]byte, unix.CmsgSpace(4*MaxFDs))}, nil
}

// FD returns the descriptor, to be watched. It stays the port's.
func (p *Port) FD() int { return p.fd }

// Recv is like Conn.Recv but doesn't wait: it returns ErrWouldBlock if there is no
// message.
func (p *Port) Recv() (Message, error) {
	for {
		n, oobn, flags, _, err := unix.Recvmsg(p.fd, p.buf, p.oob, unix.MSG_CMSG_CLOEXEC|unix.MSG_DONTWAIT)
		switch {
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.ECONNRESET): // see Conn.recvmsg
		case errors.Is(err, unix.EAGAIN):
			return Message{}, ErrWouldBlock
		case err != nil:
			return Message{}, fmt.Errorf("receive: recvmsg: %w", err)
		default:
			return received(p.buf[:n], p.oob[:oobn], flags)
		}
	}
}

// Send is like Conn.Send but doesn't wait: it returns ErrWouldBlock if the peer's queue
// is full.
func (p *Port) Send(kind Kind, body any, fds ...int) error {
	b, err := encode(kind, body, fds)
	if err != nil {
		return err
	}
	if err := sendmsg(p.fd, b, fds); err != nil {
		if errors.Is(err, unix.EAGAIN) {
			err = ErrWouldBlock
		}
		return fmt.Errorf("send %s: %w", kind, explainSend(err))
	}
	return nil
}

// Close closes the descriptor. Closing twice is harmless.
func (p *Port) Close() {
	if p.fd >= 0 {
		_ = unix.Close(p.fd)
		p.fd = -1
	}
}

// received makes a message from the results of recvmsg(2). It returns io.EOF at the end.
func received(b, oob []byte, flags int) (Message, error) {
	fds, err := rights(oob)
	if err == nil && len(b) == 0 && flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) == 0 && len(fds) == 0 {
		return Message{}, io.EOF
	}
	if err == nil {
		err = whole(flags)
	}
	m, perr := decode(b, fds)
	if err == nil {
		err = perr
	}
	if err != nil {
		closeFDs(fds)
		return Message{Version: m.Version, Kind: m.Kind}, fmt.Errorf("receive: %w", err)
	}
	return m, nil
}

// encode makes one datagram.
func encode(kind Kind, body any, fds []int) ([]byte, error) {
	b, err := json.Marshal(body)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", kind, err)
	}
	if len(b) > MaxBody || len(fds) > MaxFDs {
		return nil, fmt.Errorf("send %s: %w: %d of %d bytes, %d of %d descriptors",
			kind, ErrTooLarge, len(b), MaxBody, len(fds), MaxFDs)
	}
	h := header{version: Version, kind: kind, fds: len(fds), length: len(b)}
	return append(h.appendTo(make([]byte, 0, headerSize+len(b))), b...), nil
}

// sendmsg sends one datagram by sendmsg(2), or fails with EAGAIN.
func sendmsg(fd int, p []byte, fds []int) error {
	var oob []byte
	if len(fds) > 0 {
		oob = unix.UnixRights(fds...)
	}
	for {
		_, err := unix.SendmsgN(fd, p, oob, nil, unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// explainSend tells the errors of sendmsg apart.
func explainSend(err error) error {
	switch {
	case errors.Is(err, unix.EPIPE), errors.Is(err, unix.ECONNRESET):
		return ErrGone
	case errors.Is(err, unix.ETOOMANYREFS):
		return fmt.Errorf("sendmsg: more descriptors in flight than RLIMIT_NOFILE allows: %w", err)
	}
	return err
}
