package sandbox

import (
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
)

// Confinement is what Start takes from a process before its program begins.
type Confinement struct {
	// User is the user that it will become itself (Enter). Start gives it the user's groups, but leaves it root, so
	// that the user can't trace it. nil: it stays the master's user.
	User *User
	// Rules are the files that it may reach; nil: all.
	Rules *Rules
}

// Close closes the rules.
func (c *Confinement) Close() {
	if c != nil {
		c.Rules.Close()
	}
}

// rootKeeps are the capabilities of a worker that runs as root: it may read every file, and
// has none of root's other rights.
var rootKeeps = []int{unix.CAP_DAC_OVERRIDE, unix.CAP_DAC_READ_SEARCH}

// capabilities returns the calls that empty the bounding set, so that the process can never have a capability again,
// and leave it only CAP_SETUID, for changing to its user. What is permitted to root at an exec is the bounding set
// and the inheritable one, capabilities(7); so with an empty bounding set only the inheritable one remains, until
// the process becomes its user. The note says why, if the bounding set couldn't be emptied.
func (c *Confinement) capabilities() (note string, _ *sequence) {
	s := new(sequence)
	header := &unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	have := new([2]unix.CapUserData)
	if err := unix.Capget(header, &have[0]); err != nil {
		return fmt.Sprintf("capabilities can't be read: %v", err), s
	}
	if have[0].Effective&(1<<unix.CAP_SETPCAP) == 0 {
		if have[0].Permitted|have[1].Permitted == 0 {
			return "", s // there is nothing to take: not root
		}
		return "the bounding set is kept, as the master has no CAP_SETPCAP", s
	}
	var keep []int
	if c.User != nil && c.User.UID != 0 {
		have[0].Inheritable, have[1].Inheritable = have[0].Permitted&(1<<unix.CAP_SETUID), 0
		s.add("make CAP_SETUID inheritable", skip, unix.SYS_CAPSET, pointer(s, header), pointer(s, have))
	} else {
		keep = rootKeeps
	}
	for bit := range 64 {
		if !slices.Contains(keep, bit) {
			s.add(fmt.Sprintf("drop capability %d", bit), skip, unix.SYS_PRCTL, unix.PR_CAPBSET_DROP, uintptr(bit))
		}
	}
	return "", s
}
