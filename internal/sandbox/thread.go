package sandbox

import (
	"errors"
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

// Confinement is what is taken from a process before it exists.
type Confinement struct {
	// User is whom it will become by itself (Enter), once Credential has given it the
	// groups; nil if it stays who the master is.
	User *User
	// Rules are the files that it may reach; nil is all.
	Rules *Rules
}

// Credential returns what the process is to be given between fork and exec: the user's groups,
// and root as the user, whom nobody of that user can trace. nil if it stays who the master is.
func (c *Confinement) Credential() *syscall.Credential {
	if c.User == nil {
		return nil
	}
	return &syscall.Credential{Uid: 0, Gid: c.User.GID, Groups: c.User.Groups}
}

// Close lets go of the rules.
func (c *Confinement) Close() {
	if c != nil {
		c.Rules.Close()
	}
}

// rootKeeps are the capabilities left to a worker that is to be root: it may read what root
// may, and does nothing else of what root could do.
var rootKeeps = []int{unix.CAP_DAC_OVERRIDE, unix.CAP_DAC_READ_SEARCH}

// Thread confines the calling thread and all that it will start, for good: the thread must be
// locked and must end with its goroutine. The note says what could not be had, "" if
// nothing; only what would leave a worker less safe than ever before is an error.
func (c *Confinement) Thread() (note string, err error) {
	note = c.capabilities()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return note, fmt.Errorf("set no_new_privs: %w", err)
	}
	if c.Rules != nil {
		if err := c.Rules.restrict(); err != nil {
			return note, err
		}
	}
	return note, nil
}

// capabilities empties the bounding set, so that the process can never have a capability again,
// and leaves it only CAP_SETUID, to become its user with. What is permitted to root at an exec is
// the bounding set and the inheritable one, capabilities(7); so with the bounding set empty this
// one remains, and goes when the process becomes its user.
func (c *Confinement) capabilities() string {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var have [2]unix.CapUserData
	if err := unix.Capget(&header, &have[0]); err != nil {
		return fmt.Sprintf("capabilities can't be read: %v", err)
	}
	if have[0].Effective&(1<<unix.CAP_SETPCAP) == 0 {
		if have[0].Permitted|have[1].Permitted == 0 {
			return "" // there is nothing to take: not root
		}
		return "the bounding set is kept, as the master has no CAP_SETPCAP"
	}
	var keep []int
	if c.User != nil && c.User.UID != 0 {
		set := have
		set[0].Inheritable, set[1].Inheritable = have[0].Permitted&(1<<unix.CAP_SETUID), 0
		if err := unix.Capset(&header, &set[0]); err != nil {
			return fmt.Sprintf("the bounding set is kept, as CAP_SETUID can't be made inheritable: %v", err)
		}
	} else {
		keep = rootKeeps
	}
	return drop(keep)
}

func drop(keep []int) string {
	for bit := 0; bit < 64; bit++ {
		kept := false
		for _, k := range keep {
			kept = kept || k == bit
		}
		if kept {
			continue
		}
		err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(bit), 0, 0, 0)
		if errors.Is(err, unix.EINVAL) {
			break // the kernel knows no more of them
		}
		if err != nil {
			return fmt.Sprintf("the bounding set is kept: %v", err)
		}
	}
	return ""
}
