package wire

import (
	"bytes"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Recv waits for one message, up to the read deadline (os.ErrDeadlineExceeded,
// nothing lost). It returns io.EOF, and only then, when the peer is gone and
// every message that it sent was read.
//
// After any other error the message has been read and its descriptors are closed; the
// channel can still be used. A *VersionError or *KindError can be answered, see
// IsUnknown; the Message then has its version and kind.
func (c *Conn) Recv() (Message, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.room()
	n, oobn, flags, err := c.recvmsg()
	if err != nil {
		return Message{}, err
	}
	return received(c.buf[:n], c.oob[:oobn], flags)
}

// recvmsg reads one datagram, recvmsg(2). If a peer dies with unread messages, the kernel
// reports ECONNRESET once, before what the peer had sent. That is skipped, since the next
// calls return the rest.
func (c *Conn) recvmsg() (n, oobn, flags int, err error) {
	rerr := c.raw.Read(func(s uintptr) bool {
		n, oobn, flags, err = c.once(int(s))
		return !errors.Is(err, unix.EAGAIN)
	})
	if rerr != nil {
		return 0, 0, 0, fmt.Errorf("receive: %w", rerr)
	}
	if err != nil {
		return 0, 0, 0, fmt.Errorf("receive: recvmsg: %w", err)
	}
	return n, oobn, flags, nil
}

func whole(flags int) error {
	switch {
	case flags&unix.MSG_CTRUNC != 0:
		return fmt.Errorf("%w: descriptors are missing; RLIMIT_NOFILE may be reached, or none are expected", ErrTruncated)
	case flags&unix.MSG_TRUNC != 0:
		return fmt.Errorf("%w: more than %d bytes", ErrTruncated, headerSize+MaxBody)
	}
	return nil
}

// rights returns the descriptors in the control data, even if it returns an error.
func rights(oob []byte) ([]int, error) {
	var fds []int
	for len(oob) >= unix.SizeofCmsghdr {
		hdr, data, rest, err := unix.ParseOneSocketControlMessage(oob)
		if err != nil {
			return fds, fmt.Errorf("%w: control data: %w", ErrMalformed, err)
		}
		oob = rest
		if hdr.Level != unix.SOL_SOCKET || hdr.Type != unix.SCM_RIGHTS {
			continue
		}
		got, err := unix.ParseUnixRights(&unix.SocketControlMessage{Header: hdr, Data: data})
		if err != nil {
			return fds, fmt.Errorf("%w: control data: %w", ErrMalformed, err)
		}
		fds = append(fds, got...)
	}
	return fds, nil
}

// decode makes a message from one datagram and the descriptors that came with it. If it
// fails it leaves the descriptors open, and returns as much of version and kind as could
// be read.
func decode(b []byte, fds []int) (Message, error) {
	h, body, err := parse(b)
	m := Message{Version: h.version, Kind: h.kind}
	if err != nil {
		return m, err
	}
	if h.fds != len(fds) {
		return m, fmt.Errorf("%w: %s says %d descriptors, has %d", ErrMalformed, h.kind, h.fds, len(fds))
	}
	m.Body, m.FDs = bytes.Clone(body), fds
	return m, nil
}

// Left is like Recv for a message that the peer has sent already. It ignores the read
// deadline, and returns ErrWouldBlock if there is none.
func (c *Conn) Left() (Message, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.room()
	var n, oobn, flags int
	var err error
	cerr := c.raw.Control(func(s uintptr) {
		n, oobn, flags, err = c.once(int(s))
	})
	switch {
	case cerr != nil:
		return Message{}, fmt.Errorf("receive: %w", cerr)
	case errors.Is(err, unix.EAGAIN):
		return Message{}, ErrWouldBlock
	case err != nil:
		return Message{}, fmt.Errorf("receive: recvmsg: %w", err)
	}
	return received(c.buf[:n], c.oob[:oobn], flags)
}

// room makes the buffers, when the first message is received.
func (c *Conn) room() {
	if c.buf == nil {
		c.buf = make([]byte, headerSize+MaxBody)
	}
	if c.oob == nil && !c.noFDs {
		c.oob = make([]byte, unix.CmsgSpace(4*MaxFDs))
	}
}

// once calls recvmsg(2) without waiting.
func (c *Conn) once(fd int) (n, oobn, flags int, err error) {
	for {
		n, oobn, flags, _, err = unix.Recvmsg(fd, c.buf, c.oob, unix.MSG_CMSG_CLOEXEC|unix.MSG_DONTWAIT)
		if !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.ECONNRESET) {
			return n, oobn, flags, err
		}
	}
}
