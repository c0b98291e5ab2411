package control

import (
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// checkPeer returns an error if the process at the other end may not use this master's
// control socket. The socket's mode already keeps others out; this check holds even if
// somebody has changed the mode or passed a descriptor on.
func checkPeer(conn *net.UnixConn) error {
	cred, err := peerCred(conn)
	if err != nil {
		return fmt.Errorf("can't tell who asks: %w", err)
	}
	return allow(cred.Uid, uint32(os.Geteuid()))
}

// checkSame is like checkPeer, for requests that only the master's own user may make.
func checkSame(conn *net.UnixConn) error {
	cred, err := peerCred(conn)
	if err != nil {
		return fmt.Errorf("can't tell who asks: %w", err)
	}
	if own := uint32(os.Geteuid()); cred.Uid != own {
		return fmt.Errorf("permission denied: uid %d asks for custody, and this master gives it only to uid %d", cred.Uid, own)
	}
	return nil
}

// allow returns an error unless uid is root or own, the master's user.
func allow(uid, own uint32) error {
	switch {
	case uid == 0 || uid == own:
		return nil
	case own == 0:
		return fmt.Errorf("permission denied: uid %d asks, and this master answers only root", uid)
	default:
		return fmt.Errorf("permission denied: uid %d asks, and this master answers only root and uid %d", uid, own)
	}
}

// peerCred returns who was at the other end when it connected (SO_PEERCRED,
// unix(7)).
func peerCred(conn *net.UnixConn) (*unix.Ucred, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	var cred *unix.Ucred
	var credErr error
	err = raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err != nil {
		return nil, err
	}
	return cred, credErr
}
