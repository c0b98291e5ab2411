package upgrade

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"reuseportd/internal/record"
	"reuseportd/internal/sockdiag"
)

var ownPID = os.Getpid()

// stray is a listener at a rescue that is not the worker that the record has there. It may
// hold sockets of the service, so it can't be left alone; who it is, is for a person to say.
type stray struct {
	name string
	fd   int // the connection, -1 if there is none
	peer record.Peer
	err  error // why there is no connection or no peer
}

func (s *stray) close() {
	if s.fd >= 0 {
		_ = unix.Close(s.fd)
	}
	if s.peer.PIDFD >= 0 {
		_ = unix.Close(s.peer.PIDFD)
	}
	s.fd, s.peer.PIDFD = -1, -1
}

// String names the process.
func (s *stray) String() string {
	switch {
	case s.fd < 0:
		return fmt.Sprintf("an unknown process (%v)", s.err)
	case s.peer.PID == 0:
		return fmt.Sprintf("a process of another PID namespace (uid %d)", s.peer.UID)
	}
	text := fmt.Sprintf("process %d (uid %d", s.peer.PID, s.peer.UID)
	if command := sockdiag.Command(s.peer.PID); command != "" {
		text += ", " + command
	}
	return text + ")"
}

// leaves reports whether it ends by itself: a worker that was never lent anything does, when
// its master is gone, and isn't recorded when that was the next master of an upgrade.
func (s *stray) leaves(deadline time.Time) bool {
	if s.fd < 0 {
		return false
	}
	if s.peer.PIDFD < 0 {
		return true // it has ended: the socket has another holder, who can't be told
	}
	return record.Ended(s.peer.PIDFD, max(0, time.Until(deadline)))
}

// end kills it. The pidfd is the kernel's word for who listens; where the kernel has
// none, the PID must still be the same user's.
func (s *stray) end() error {
	if s.peer.PIDFD < 0 {
		return errors.New("the kernel doesn't say which process it is. Find who listens there (ss -xlp) and end it; " +
			"remove the socket file only when nobody does")
	}
	uid, err := record.RealUID(s.peer.PID)
	if err != nil {
		return err
	}
	if uid != s.peer.UID {
		return fmt.Errorf("it belongs to uid %d, and uid %d listened", uid, s.peer.UID)
	}
	if err := unix.PidfdSendSignal(s.peer.PIDFD, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return err
	}
	if !record.Ended(s.peer.PIDFD, endPatience) {
		return fmt.Errorf("it has not ended within %s", endPatience)
	}
	return nil
}

// settleStrays refuses the start when there are strays, or ends them with Options.Force.
func (a *adoption) settleStrays(missing bool) error {
	patience := time.Now()
	if !a.co.opts.Force { // else it makes no difference
		patience = patience.Add(orphanPatience)
	}
	var stay []*stray
	for _, s := range a.strays {
		if s.leaves(patience) {
			if s.peer.PIDFD < 0 {
				a.co.log.Warn().Str("socket", s.name).Int("worker_pid", s.peer.PID).
					Msg("somebody else has a duplicate of the socket of a worker that has ended; who it is can't be told")
			}
			_ = a.co.dir.Remove(s.name)
			s.close()
			continue
		}
		stay = append(stay, s)
	}
	a.strays = stay
	if len(stay) == 0 {
		return nil
	}
	if !a.co.opts.Force {
		return a.refusal(missing)
	}
	for _, s := range stay {
		text := s.String()
		if err := s.end(); err != nil {
			return fmt.Errorf("end %s, which listens at %s: %w", text, s.name, err)
		}
		a.co.log.Warn().Str("socket", s.name).Int("stray_pid", s.peer.PID).Str("process", text).
			Msg("a process that no master has written down listened in a worker's place: it was ended (--force)")
		_ = a.co.dir.Remove(s.name)
		s.close()
	}
	a.strays = nil
	return nil
}

// refusal says who is in the way and what to do.
func (a *adoption) refusal(missing bool) error {
	var who []string
	for _, s := range a.strays {
		who = append(who, fmt.Sprintf("%s listens at %s", s, s.name))
	}
	why := "which is in no master's record (" + record.File + ")"
	if missing {
		why = "and there is no record of an earlier master (" + record.File + "): it may be a worker of an older release, which wrote none"
	}
	return fmt.Errorf("runtime directory %s: %s, %s. It may hold addresses of this service, so nothing is started. "+
		"See what it is; end it yourself, or start with `run --force`, which ends it and what it has open",
		a.co.dir.Path(), strings.Join(who, "; "), why)
}
