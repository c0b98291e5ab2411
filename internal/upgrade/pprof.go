package upgrade

import (
	"fmt"

	"golang.org/x/sys/unix"

	"reuseportd/internal/rundir"
)

const (
	pprofPrefix = "pprof-"
	pprofSuffix = ".sock"
)

// pprofName is the name, in the runtime directory, of the socket at which a worker gives
// profiles: by generation and first slot, as its command line and `status` name it.
func pprofName(generation uint64, slot int) string {
	return fmt.Sprintf("%s%d-%d%s", pprofPrefix, generation, slot, pprofSuffix)
}

// makePprof makes that socket, if this master was asked to, and else returns -1. A
// worker does without rather than not start. It listens itself: until it serves, a
// client is refused, and never waits.
func (co *coordinator) makePprof(p *proc) int {
	if !co.opts.Pprof {
		return -1
	}
	fd, err := co.dir.Bind(p.pprof, unix.SOCK_STREAM)
	if err != nil {
		co.log.Error().Err(err).Msg("a worker gives no profiles")
		return -1
	}
	return fd
}

// sweepPprofs removes the sockets of workers that are none of this master's: they ended
// while there was none. The lock must be held.
func (co *coordinator) sweepPprofs() {
	mine := make(map[string]bool)
	for _, p := range co.procs {
		mine[p.pprof] = true
	}
	removePprofs(co.dir, mine)
}

// removePprofs removes all such sockets but those to keep, by name.
func removePprofs(dir *rundir.Dir, keep map[string]bool) {
	names, _ := dir.Names(pprofPrefix, pprofSuffix)
	for _, name := range names {
		if !keep[name] {
			_ = dir.Remove(name)
		}
	}
}
