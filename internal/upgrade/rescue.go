package upgrade

import (
	"fmt"

	"golang.org/x/sys/unix"

	"reuseportd/internal/rundir"
)

const (
	rescuePrefix = "worker-"
	rescueSuffix = ".sock"
)

// rescueName is the name of a worker's rescue in the runtime directory.
func rescueName(w *worker) string {
	return rescueOf(w.gen.id, w.index)
}

// makeRescue makes the rescue that a worker is started with. The worker listens
// itself, so that SO_PEERCRED names it.
func (co *coordinator) makeRescue(w *worker) (int, error) {
	return co.dir.Bind(rescueName(w), unix.SOCK_SEQPACKET)
}

// removeRescue removes the rescue of a worker that has ended.
func (co *coordinator) removeRescue(w *worker) {
	_ = co.dir.Remove(rescueName(w))
}

// removeRescues removes those that are left at the end of the service: a next master
// that was ended before it had taken over can't remove its workers'.
func removeRescues(dir *rundir.Dir) {
	names, _ := dir.Names(rescuePrefix, rescueSuffix)
	for _, name := range names {
		_ = dir.Remove(name)
	}
}

func rescueOf(generation uint64, index int) string {
	return fmt.Sprintf("%s%d-%d%s", rescuePrefix, generation, index, rescueSuffix)
}
