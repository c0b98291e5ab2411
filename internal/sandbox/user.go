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
func (u *User) Arg() string {
	groups := make([]string, len(u.Groups))
	for i, g := range u.Groups {
		groups[i] = strconv.FormatUint(uint64(g), 10)
	}
	return fmt.Sprintf("%s%d:%d:%s", userArg, u.UID, u.GID, strings.Join(groups, ","))
}

// parseUser reads what Arg has written.
func parseUser(arg string) (*User, error) {
	rest, ok := strings.CutPrefix(arg, userArg)
	parts := strings.Split(rest, ":")
	if !ok || len(parts) != 3 {
		return nil, fmt.Errorf("%q names no user", arg)
	}
	u, err := new(User), error(nil)
	id := func(s string) uint32 {
		n, bad := strconv.ParseUint(s, 10, 32)
		if bad == nil && n == 1<<32-1 { // "no change" to setresuid(2)
			bad = strconv.ErrRange
		}
		if bad != nil && err == nil {
			err = fmt.Errorf("%q names no user: %w", arg, bad)
		}
		return uint32(n)
	}
	u.UID, u.GID = id(parts[0]), id(parts[1])
	if parts[2] != "" {
		for s := range strings.SplitSeq(parts[2], ",") {
			u.Groups = append(u.Groups, id(s))
		}
	}
	return u, err
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

func (u *User) become() error {
	groups := make([]int, len(u.Groups))
	for i, g := range u.Groups {
		groups[i] = int(g)
	}
	step, err := "setgroups", syscall.Setgroups(groups)
	if err == nil {
		step, err = "setresgid", syscall.Setresgid(int(u.GID), int(u.GID), int(u.GID))
	}
	if err == nil {
		step, err = "setresuid", syscall.Setresuid(int(u.UID), int(u.UID), int(u.UID))
	}
	if err != nil {
		return fmt.Errorf("become uid %d, gid %d: %s: %w%s", u.UID, u.GID, step, err, becomeHint(err))
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

// dropInheritable takes from all threads what Thread had left them to become their user with.
// Where cgo is linked in this can't be done, as in tests under the race detector; with an empty
// bounding set and no_new_privs nothing can be made of what is inheritable.
func dropInheritable() {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData
	_, _, _ = syscall.AllThreadsSyscall(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&none[0])), 0)
}
