package upgrade

import (
	"fmt"

	"golang.org/x/sys/unix"

	"reuseportd/internal/record"
	"reuseportd/internal/rundir"
)

// masterLives returns an error if the master that wrote the record is still there. The lock
// keeps a second one out, but its file can be removed; then workers whose master
// lives would be taken for orphans. Asked before anything is touched.
func masterLives(dir *rundir.Dir) error {
	rec, err := record.Load(dir)
	if err != nil || rec.Master.PID == ownPID {
		return nil // adoption says what is wrong with it
	}
	pidfd, err := record.Find(rec.Master.PID, rec.Master.Start)
	if err != nil {
		return nil // it has ended
	}
	_ = unix.Close(pidfd)
	return fmt.Errorf("runtime directory %s is %w by PID %d (reuseportd), which has lost its lock file and makes it anew: "+
		"use `reuseportd reload` or `reuseportd stop`, or give this instance a --runtime-dir of its own", dir.Path(), rundir.ErrLocked, rec.Master.PID)
}
