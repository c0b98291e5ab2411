package upgrade

import (
	"fmt"

	"golang.org/x/sys/unix"

	"reuseportd/internal/lifecycle"
	"reuseportd/internal/rundir"
)

const (
	rescuePrefix = "worker-"
	rescueSuffix = ".sock"
)

// rescueName is the name of a worker's rescue in the runtime directory.
func rescueName(id lifecycle.ID) string {
	return fmt.Sprintf("%s%d-%d%s", rescuePrefix, id.Generation, id.Index, rescueSuffix)
}

// makeRescue makes the rescue that a worker is started with. The worker listens
// itself, so that SO_PEERCRED names it.
func (co *coordinator) makeRescue(id lifecycle.ID) (int, error) {
	return co.dir.Bind(rescueName(id), unix.SOCK_SEQPACKET)
}

// removeRescues removes those that are left at the end of the service: a next master
// that was ended before it had taken over can't remove its workers'.
func removeRescues(dir *rundir.Dir) {
	names, _ := dir.Names(rescuePrefix, rescueSuffix)
	for _, name := range names {
		_ = dir.Remove(name)
	}
}
