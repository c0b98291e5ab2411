package sandbox

import (
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The rights of a rule, landlock(7).
const (
	readFile = unix.LANDLOCK_ACCESS_FS_READ_FILE
	readDir  = unix.LANDLOCK_ACCESS_FS_READ_DIR
	execute  = unix.LANDLOCK_ACCESS_FS_EXECUTE
	reading  = readFile | readDir
	writing  = reading | unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_MAKE_REG |
		unix.LANDLOCK_ACCESS_FS_TRUNCATE
)

// Rules are the files and directories that a worker may reach: a Landlock ruleset. What
// the ruleset handles and no rule allows is denied, unless it comes as an open descriptor.
//
// The three system calls are made here and not by go-landlock, since that depends on psx,
// which with cgo brings C code and a signal handler into each process.
type Rules struct {
	fd  int
	abi int
	all uint64 // the rights on files that are handled: those that the kernel knows
}

// Reach is what a worker must be able to reach.
type Reach struct {
	// User is the user whose permissions decide what can be opened to make a rule; nil: the
	// caller's.
	User *User
	// Roots are directories whose files it serves.
	Roots []string
	// Names says that it looks up host names, for which it reads /etc.
	Names bool
	// Writable are directories that it may write to, in tests.
	Writable []string
}

// LandlockABI returns the version of Landlock that the kernel has, 0 if it has none.
func LandlockABI() int {
	n, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 {
		return 0
	}
	return int(n)
}

// NewRules makes the rules for a worker that is started from this process's own binary, as far
// as the kernel's Landlock supports them. It returns nil and no error if the kernel has none.
func NewRules(reach Reach) (*Rules, error) {
	r := &Rules{abi: LandlockABI()}
	if r.abi == 0 {
		return nil, nil
	}
	attr := unix.LandlockRulesetAttr{Handled_access_fs: 1<<13 - 1} // all rights of the first version
	if r.abi >= 2 {
		attr.Handled_access_fs |= unix.LANDLOCK_ACCESS_FS_REFER
	}
	if r.abi >= 3 {
		attr.Handled_access_fs |= unix.LANDLOCK_ACCESS_FS_TRUNCATE
	}
	if r.abi >= 4 {
		attr.Handled_access_net = unix.LANDLOCK_ACCESS_NET_BIND_TCP // only the master binds
	}
	if r.abi >= 5 {
		attr.Handled_access_fs |= unix.LANDLOCK_ACCESS_FS_IOCTL_DEV
	}
	if r.abi >= 6 {
		attr.Scoped = unix.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET | unix.LANDLOCK_SCOPE_SIGNAL
	}
	r.all = attr.Handled_access_fs
	fd, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr), 0)
	if errno != 0 {
		return nil, fmt.Errorf("make a Landlock ruleset: %w", errno)
	}
	r.fd = int(fd)
	unix.CloseOnExec(r.fd)
	err := r.add(reach)
	if err != nil {
		r.Close()
		return nil, fmt.Errorf("fill a Landlock ruleset: %w", err)
	}
	return r, nil
}

// ABI returns the version of Landlock that is used, 0 for no rules.
func (r *Rules) ABI() int {
	if r == nil {
		return 0
	}
	return r.abi
}

// Close closes the ruleset. Processes that are restricted by it stay so.
func (r *Rules) Close() {
	if r != nil {
		_ = unix.Close(r.fd)
	}
}

// needs are the files that the Go runtime, the time stamps of logs, and exec read in any
// worker.
var needs = map[string]uint64{
	"/proc/self/exe": readFile | execute,
	"/proc":          readDir, // pinning lists threads; no file there is read
	"/sys/kernel/mm/transparent_hugepage/hpage_pmd_size": readFile,
	"/etc/localtime":      readFile,
	"/usr/share/zoneinfo": reading,
	"/dev/null":           readFile | unix.LANDLOCK_ACCESS_FS_WRITE_FILE,
}

// names are the files that looking up host names reads, and certificates of authorities. All
// of /etc is allowed, since resolv.conf is replaced by renames, and may be a link to one of
// the other files.
var names = []string{
	"/etc", "/run/systemd/resolve", "/run/NetworkManager", "/run/resolvconf", "/run/connman",
	"/usr/share/ca-certificates", "/usr/local/share/ca-certificates",
}

func (r *Rules) add(reach Reach) error {
	var errs []error
	for path, rights := range needs {
		errs = append(errs, r.allow(path, rights))
	}
	for path, rights := range linked { // depends on how this binary was linked
		errs = append(errs, r.allow(path, rights))
	}
	for _, path := range reach.Writable {
		errs = append(errs, r.allow(path, writing))
	}
	if reach.Names {
		for _, path := range names {
			errs = append(errs, r.allow(path, reading))
		}
	}
	if len(reach.Roots) > 0 {
		fds, err := openAs(reach.User, reach.Roots)
		errs = append(errs, err)
		for _, fd := range fds {
			errs = append(errs, r.allowFD(fd, reading))
			_ = unix.Close(fd)
		}
	}
	return errors.Join(errs...)
}

// allow adds a rule for the file or directory at path, if there is one.
func (r *Rules) allow(path string, rights uint64) error {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil // if it is needed the worker will fail and say so
	}
	defer unix.Close(fd)
	if err := r.allowFD(fd, rights); err != nil {
		return &os.PathError{Op: "allow", Path: path, Err: err}
	}
	return nil
}

func (r *Rules) allowFD(fd int, rights uint64) error {
	rule := unix.LandlockPathBeneathAttr{Allowed_access: rights & r.all, Parent_fd: int32(fd)}
	_, _, errno := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(r.fd), unix.LANDLOCK_RULE_PATH_BENEATH,
		uintptr(unsafe.Pointer(&rule)), 0, 0, 0)
	// A file that is in no file system, such as a memfd from which the binary was started,
	// can't have a rule and needs none (EBADFD).
	if errno != 0 && errno != unix.EBADFD {
		return errno
	}
	return nil
}
