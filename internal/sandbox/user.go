package sandbox

import (
	"fmt"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// User is the user that a worker runs as, in numbers.
type User struct {
	UID, GID uint32
	Groups   []uint32 // supplementary groups
}

const userArg = "user="

// Arg returns the argument that tells a worker which user to become. Enter reads it.
func (u *User) Arg() string { return userArg + strconv.FormatUint(uint64(u.UID), 10) }

// parseUser reads what Arg returns.
func parseUser(arg string) (*User, error) {
	id, ok := strings.CutPrefix(arg, userArg)
	n, err := strconv.ParseUint(id, 10, 32)
	if !ok || err != nil || n == 1<<32-1 { // "no change" to setresuid(2)
		return nil, fmt.Errorf("%q names no user", arg)
	}
	return &User{UID: uint32(n)}, nil
}

// Enter changes the process to the user that args name, if they name one, and keeps that
// user from tracing it (PR_SET_DUMPABLE, prctl(2)). It must be called before the process
// reads anything that it will work on. The system calls are made on every thread, with and
// without cgo: syscall.Setresuid.
func Enter(args []string) error {
	// If the user doesn't change, this alone keeps tracers out; otherwise it does so
	// whatever fs.suid_dumpable says.
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("close the process to tracers: %w", err)
	}
	if len(args) == 0 {
		return nil
	}
	u, err := parseUser(args[0])
	if err != nil {
		return err
	}
	if err := u.become(); err != nil {
		return err
	}
	return unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
}

// become changes the user. Confinement.Start has changed the groups before the program was executed.
func (u *User) become() error {
	if err := syscall.Setresuid(int(u.UID), int(u.UID), int(u.UID)); err != nil {
		return fmt.Errorf("become uid %d: setresuid: %w%s", u.UID, err, becomeHint(err))
	}
	if u.UID != 0 {
		dropInheritable()
	}
	return nil
}

func becomeHint(err error) string {
	switch err {
	case unix.EPERM:
		return " (give the master CAP_SETUID and CAP_SETGID, or say `user: root` to have workers run as root)"
	case unix.EINVAL:
		return " (this user namespace has no such number: name another user, or say `user: root`)"
	}
	return ""
}

// dropInheritable takes from all threads the capability that Start has left them for changing
// the user. With cgo, as in tests under the race detector, this isn't possible; but with an
// empty bounding set and no_new_privs an inheritable capability is useless.
func dropInheritable() {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData
	_, _, _ = syscall.AllThreadsSyscall(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&none[0])), 0)
}
