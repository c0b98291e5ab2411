// Package threads has the Go runtime make its threads before they are needed.
//
// The runtime makes a thread when a goroutine could run and all others are in system calls, and keeps it for good.
// If the kernel refuses one (EAGAIN at pids.max or RLIMIT_NPROC), it ends the process: an old generation could
// die of the new one's threads, and the master of its own. So a process has its threads before it is ready, where that end harms
// nobody, and uses none up: nothing may end while it is locked to its thread.
package threads

import (
	"runtime"
	"sync"
)

// Reserve has n threads made beside those that are in system calls; wait returns when they are there. It must be
// called.
func Reserve(n int) (wait func()) {
	release := make(chan struct{})
	var there, done sync.WaitGroup
	there.Add(n)
	for range n {
		done.Go(func() {
			runtime.LockOSThread() // so that each waits on a thread that no other can have
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

// OfWorker is how many a worker needs: its loops, which may all wait for a disk while others run, and some
// for names, checks and profiles.
func OfWorker(loops int) int { return loops + min(loops, 8) + 5 }

// OfMaster is how many a master needs: as many goroutines as may run, and some that wait for files.
func OfMaster() int { return min(runtime.GOMAXPROCS(0), 8) + 8 }
