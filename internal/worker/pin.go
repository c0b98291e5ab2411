package worker

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"
)

// pin binds the process to the CPUs of its loops, if they are pinned. If that fails, for
// example because a CPU is offline or has left the cgroup's set, the worker serves all
// the same. Threads that are made later inherit the binding.
func (w *worker) pin() {
	var set unix.CPUSet
	for _, s := range w.start.Slots {
		if cpu := w.conf.CPU(s); cpu >= 0 {
			set.Set(cpu)
		}
	}
	w.together = set.Count() < 2
	if set.Count() == 0 {
		return
	}
	if err := pinThreads(&set); err != nil {
		w.log.Warn().Err(err).Ints("slots", w.start.Slots).Msg("event loops can't be pinned to their CPUs (cpu_affinity); they serve on any")
	}
}

// pinThreads binds all threads of the process. It goes over them until it finds no new
// one, since a thread may make others meanwhile.
func pinThreads(set *unix.CPUSet) error {
	done := make(map[int]bool)
	for found := true; found; {
		found = false
		tasks, err := os.ReadDir("/proc/self/task")
		if err != nil {
			return err
		}
		for _, task := range tasks {
			tid, err := strconv.Atoi(task.Name())
			if err != nil || done[tid] {
				continue
			}
			done[tid], found = true, true
			if err := unix.SchedSetaffinity(tid, set); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("sched_setaffinity: %w", err)
			}
		}
	}
	return nil
}

// pin gives the loop on this goroutine a thread of its own on its CPU, if loops of the
// process have different CPUs. If they don't, that would only make each switch to another
// goroutine more expensive.
func (lp *loop) pin() {
	cpu := lp.w.conf.CPU(lp.slot)
	if cpu < 0 || lp.w.together {
		return
	}
	runtime.LockOSThread()
	var set unix.CPUSet
	set.Set(cpu)
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		runtime.UnlockOSThread()
		lp.w.mail.post(func() {
			lp.w.log.Warn().Err(err).Int("slot", lp.slot).Int("cpu", cpu).Msg("an event loop can't be pinned to its CPU (cpu_affinity); it serves on any")
		})
	}
}
