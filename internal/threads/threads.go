// Package threads makes the Go runtime create its threads before they are needed.
//
// The runtime creates a thread when a goroutine could run and all existing threads are in system calls, and keeps it for
// ever. If the kernel refuses one (EAGAIN at pids.max or RLIMIT_NPROC), the runtime ends the process: an old generation
// could die because of the new one's threads, and the master because of its own. So a process creates its threads before it
// is ready, when its end harms nobody. It must never lose one: no goroutine may end while it is locked to its thread.
package threads

import (
	"runtime"
	"sync"
)

// Reserve makes the runtime create n threads besides those that are in system calls. wait returns when they
// exist; it must be called.
func Reserve(n int) (wait func()) {
	release := make(chan struct{})
	var there, done sync.WaitGroup
	there.Add(n)
	for range n {
		done.Go(func() {
			runtime.LockOSThread() // so that each waits on a thread of its own
			defer runtime.UnlockOSThread()
			there.Done()
			<-release
		})
	}
	return func() {
		there.Wait()
		close(release)
		done.Wait()
	}
}

// OfWorker returns how many threads a worker needs: for its loops, which may all wait for a disk while
// others run, and some for names, checks and profiles.
func OfWorker(loops int) int { return loops + min(loops, 8) + 5 }

// OfMaster returns how many threads a master needs: as many as goroutines may run at the same time,
// and some that wait for files.
func OfMaster() int { return min(runtime.GOMAXPROCS(0), 8) + 8 }
