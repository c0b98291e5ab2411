package sockdiag

import (
	"bytes"
	"encoding/binary"
	"errors"

	"golang.org/x/sys/unix"
)

// Sizes and numbers of linux/unix_diag.h.
const (
	unixRequestLen = 24 // struct unix_diag_req
	unixMessageLen = 16 // struct unix_diag_msg
	showName       = 1 << 0
	showFile       = 1 << 1
	showUID        = 1 << 6
	attrName       = 0
	attrFile       = 1
	attrUID        = 7

	tcpClose = 1 << 7 // the state of a Unix socket that is bound and doesn't listen
)

// Unix calls f for each Unix socket that is bound to a path and listens, or may still do
// so.
func Unix(f func(Socket)) error {
	req := make([]byte, unixRequestLen)
	req[0] = unix.AF_UNIX
	binary.NativeEndian.PutUint32(req[4:], uint32(Listen)|tcpClose)
	binary.NativeEndian.PutUint32(req[12:], showName|showFile|showUID)
	return dump(req, func(body []byte) error {
		s, err := parseUnix(body)
		if err == nil && s.Path != "" {
			f(s)
		}
		return err
	})
}

// parseUnix reads a struct unix_diag_msg and the attributes after it.
func parseUnix(b []byte) (Socket, error) {
	if len(b) < unixMessageLen {
		return Socket{}, errors.New("sock_diag: short answer")
	}
	s := Socket{Inode: binary.NativeEndian.Uint32(b[4:]), Cookie: cookie(b[8:])}
	err := eachAttribute(b[unixMessageLen:], func(kind uint16, value []byte) {
		switch {
		case kind == attrName:
			s.Path, _, _ = cutPath(value)
		case kind == attrFile && len(value) >= 8:
			s.Ino, s.Dev = uint64(binary.NativeEndian.Uint32(value)), uint64(binary.NativeEndian.Uint32(value[4:]))
		case kind == attrUID && len(value) >= 4:
			s.UID = binary.NativeEndian.Uint32(value)
		}
	})
	return s, err
}

// cutPath returns the path in a struct sockaddr_un, "" for an abstract name.
func cutPath(name []byte) (path string, rest []byte, ended bool) {
	before, rest, ended := bytes.Cut(name, []byte{0})
	return string(before), rest, ended
}

// IsFile reports whether a Unix socket is bound to the file that st describes. The kernel reports 32
// bits of the inode, and the device in its own encoding.
func (s *Socket) IsFile(st *unix.Stat_t) bool {
	return s.SameDevice(st) && s.Ino == st.Ino&0xffffffff
}

// SameDevice reports whether a Unix socket's file is on the device in st. On layered file systems it
// isn't, since stat(2) reports another device there.
func (s *Socket) SameDevice(st *unix.Stat_t) bool {
	dev := uint64(unix.Major(uint64(st.Dev)))<<20 | uint64(unix.Minor(uint64(st.Dev)))
	return s.Ino != 0 && s.Dev == dev
}
