package upgrade

import (
	"fmt"

	"reuseportd/internal/parent"
)

// findFollower looks for who would take the end of this master for that of the service. A master
// that another one started has none: whoever has started the first one has lived with its end.
func (co *coordinator) findFollower() {
	if co.upg.HasParent() {
		return
	}
	if f, ok := parent.Find(); ok {
		co.follower = &f
		co.log.Info().Str("parent", f.Name).Int("parent_pid", f.PID).Msg("upgrades will be refused, as this parent takes this process's end for that of the service: " + remedy(f))
	}
}

// unfollowed returns why the service would not outlive the end of this master, nil if it will.
func (co *coordinator) unfollowed() error {
	f := co.follower
	if f == nil || !f.Follows() {
		return nil
	}
	who := f.Name
	if f.PID != 0 {
		who = fmt.Sprintf("%s (PID %d)", f.Name, f.PID)
	}
	return fmt.Errorf("%s has started this master (PID %d) and takes its end for that of the service: it would end everything, or start a second one; %s. "+
		"`reuseportd upgrade --force` goes on all the same", who, ownPID, remedy(*f))
}

// remedy is what to do about a follower.
func remedy(f parent.Follower) string {
	if f.Systemd {
		return "let the unit have Type=notify, as deploy/reuseportd.service does"
	}
	return "start it as `reuseportd run --init`, which stays through all upgrades (deploy/README.md)"
}
