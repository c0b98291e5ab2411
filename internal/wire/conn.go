package wire

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"reuseportd/internal/failpoint"
)

// Conn is one end of a channel. Any number of goroutines may Send; messages don't mix.
// One goroutine at a time may receive; others wait for it.
type Conn struct {
	file *os.File
	raw  syscall.RawConn

	// mu guards buf and oob, which have room for the largest message.
	mu    sync.Mutex
	buf   []byte
	oob   []byte
	noFDs bool // oob stays empty
}

// Pair returns a channel: a is this process's end, b is for another one
// (exec.Cmd.ExtraFiles, SCM_RIGHTS, or FromFD there). The caller closes b once
// it was passed on; only then is the death of the other process seen as
// io.EOF on a.
//
// The two ends are separate open file descriptions, so whatever b's new owner
// does to its O_NONBLOCK leaves a alone.
func Pair() (a *Conn, b *os.File, err error) {
	if err := failpoint.Hit("socketpair"); err != nil {
		return nil, nil, fmt.Errorf("socketpair: %w", err)
	}
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("socketpair: %w", err)
	}
	a, err = FromFD(fds[0])
	if err != nil {
		_ = unix.Close(fds[1])
		return nil, nil, err
	}
	return a, os.NewFile(uintptr(fds[1]), "wire"), nil
}

// FromFD makes a Conn from a received or inherited descriptor. It takes over the
// descriptor, and closes it if it fails. It makes it non-blocking and close-on-exec.
func FromFD(fd int) (*Conn, error) {
	if err := checkSocket(fd); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("descriptor %d is no channel: %w", fd, err)
	}
	unix.CloseOnExec(fd)
	if err := unix.SetNonblock(fd, true); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("channel: set O_NONBLOCK: %w", err)
	}
	// os.File leaves a descriptor non-blocking that is so already, even after Fd; see
	// os.NewFile.
	file := os.NewFile(uintptr(fd), "wire")
	raw, err := file.SyscallConn()
	if err != nil {
		_ = file.Close()
		return nil, fmt.Errorf("channel: %w", err)
	}
	return &Conn{file: file, raw: raw}, nil
}

func checkSocket(fd int) error {
	domain, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
	if err != nil {
		return fmt.Errorf("getsockopt SO_DOMAIN: %w", err)
	}
	typ, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil {
		return fmt.Errorf("getsockopt SO_TYPE: %w", err)
	}
	if domain != unix.AF_UNIX || typ != unix.SOCK_SEQPACKET {
		return fmt.Errorf("domain %d, type %d: want AF_UNIX, SOCK_SEQPACKET", domain, typ)
	}
	return nil
}

// Dup returns another descriptor of the same end, close-on-exec, for passing the channel
// on to another process; the caller closes it. Original and duplicate read from the same
// queue, so call StopReading here first.
func (c *Conn) Dup() (int, error) {
	fd := -1
	var err error
	if cerr := c.raw.Control(func(s uintptr) {
		fd, err = unix.FcntlInt(s, unix.F_DUPFD_CLOEXEC, 3)
	}); cerr != nil {
		return -1, fmt.Errorf("duplicate channel: %w", cerr)
	}
	if err != nil {
		return -1, fmt.Errorf("duplicate channel: %w", err)
	}
	return fd, nil
}

// File is like Dup, for exec.Cmd.ExtraFiles and the like.
func (c *Conn) File() (*os.File, error) {
	fd, err := c.Dup()
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), "wire"), nil
}

// RefuseFDs makes Recv return ErrTruncated for messages that come with descriptors, from
// here on. The kernel then keeps the descriptors: closing one that a hostile peer has chosen
// can hang. It must not be called during a Recv.
func (c *Conn) RefuseFDs() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.noFDs, c.oob = true, nil
}

// StopReading makes a Recv in progress, and every later one, return
// os.ErrDeadlineExceeded. No message is lost: one that Recv had not returned
// yet stays in the kernel's queue, for this process or the next owner.
func (c *Conn) StopReading() error { return c.SetReadDeadline(time.Unix(1, 0)) }

// ResumeReading undoes StopReading.
func (c *Conn) ResumeReading() error { return c.SetReadDeadline(time.Time{}) }

// SetReadDeadline bounds Recv, as os.File.SetReadDeadline does.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.file.SetReadDeadline(t) }

// SetWriteDeadline bounds Send, as os.File.SetWriteDeadline does.
func (c *Conn) SetWriteDeadline(t time.Time) error { return c.file.SetWriteDeadline(t) }

// Close closes this process's descriptor. A Recv in progress returns
// os.ErrClosed. Closing twice is harmless.
func (c *Conn) Close() error {
	if err := c.file.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
		return fmt.Errorf("close channel: %w", err)
	}
	return nil
}
