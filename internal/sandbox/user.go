package sandbox

import (
	"fmt"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// User is whom a worker runs as, in numbers.
type User struct {
	UID, GID uint32
	Groups   []uint32 // supplementary groups
}

const userArg = "user="

// Arg returns the argument that tells a worker who it is to become, as Enter reads it.
func (u *User) Arg() string { return userArg + strconv.FormatUint(uint64(u.UID), 10) }

// parseUser reads what Arg has written.
func parseUser(arg string) (*User, error) {
	id, ok := strings.CutPrefix(arg, userArg)
	n, err := strconv.ParseUint(id, 10, 32)
	if !ok || err != nil || n == 1<<32-1 { // "no change" to setresuid(2)
		return nil, fmt.Errorf("%q names no user", arg)
	}
	return &User{UID: uint32(n)}, nil
}

// Enter makes the process the user that args names, if they name one, and closes it to
// tracers of that user (PR_SET_DUMPABLE, prctl(2)). It must come before anything of what the
// process will work on is read. The system calls are made on every thread, with and without
// cgo: syscall.Setresuid.
func Enter(args []string) error {
	// Where the user doesn't change this alone keeps tracers out; else it holds whatever
	// fs.suid_dumpable says.
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

// become changes the user. The groups were changed before the program was executed, Confinement.Start.
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

// dropInheritable takes from all threads what Start had left them to become their user with.
// Where cgo is linked in this can't be done, as in tests under the race detector; with an empty
// bounding set and no_new_privs nothing can be made of what is inheritable.
func dropInheritable() {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData
	_, _, _ = syscall.AllThreadsSyscall(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&none[0])), 0)
}
