package eventloop

import (
	"runtime"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A mutex word is 0, or the process ID of the holder, with waiters if somebody
// may sleep until it is free: the form of a robust futex (futex(2)). It lies in
// memory that processes share.
//
// The word decides only who watches a socket. A connection is taken by accept(2),
// once, so a lock that is broken wrongly costs a wake-up in vain and no more.
const (
	holderMask = 1<<30 - 1
	waiters    = 1 << 31
)

const (
	// mutexSpin is how often a busy word is looked at before its loop waits.
	mutexSpin = 64
	// mutexPatience is how long a waiter sleeps before it looks whether the holder
	// lives, and accepts.
	mutexPatience = 500 * time.Millisecond
)

// mutex is one loop's use of a mutex word. The loop itself never waits for it: a
// goroutine does, and wakes the loop, which has other events to serve.
type mutex struct {
	word *uint32
	fd   int32 // the listening socket; -1 for none
	pid  uint32
	// contended is set for the loop that was woken: others may still sleep, so its
	// unlock wakes one of them. It belongs to the loop.
	contended bool
	// waiting says that the goroutine waits for the loop. It belongs to the loop.
	waiting bool
	ask     chan struct{}
	closed  atomic.Bool
}

// newMutex starts the goroutine that waits. woken is called by it each time that
// trying again is worth it.
func newMutex(word *uint32, fd int32, woken func()) *mutex {
	m := &mutex{word: word, fd: fd, pid: uint32(unix.Getpid()), ask: make(chan struct{}, 1)}
	go func() {
		for range m.ask {
			m.sleep()
			if m.closed.Load() {
				futexWake(m.word, 1) // the wake-up may have been the only one
			}
			woken()
		}
	}()
	return m
}

// tryLock spins for a moment and reports whether the mutex is held now.
func (m *mutex) tryLock() bool {
	want := m.pid
	if m.contended {
		want |= waiters
	}
	for range mutexSpin {
		if atomic.LoadUint32(m.word) == 0 && atomic.CompareAndSwapUint32(m.word, 0, want) {
			m.contended = false
			return true
		}
	}
	return false
}

// unlock gives the mutex up, unless it was taken away meanwhile.
func (m *mutex) unlock() { BreakMutex(m.word, int(m.pid)) }

// await has woken called when the mutex may be free.
func (m *mutex) await() {
	if !m.waiting {
		m.waiting = true
		m.ask <- struct{}{} // never blocks: one is asked for at a time
	}
}

// woke ends await, on the loop's side.
func (m *mutex) woke() { m.waiting, m.contended = false, true }

// pass gives a wake-up that this loop has no use for to another.
func (m *mutex) pass() {
	if m.contended {
		m.contended = false
		futexWake(m.word, 1)
	}
}

// close ends the goroutine. The mutex must not be held.
func (m *mutex) close() {
	m.closed.Store(true)
	close(m.ask)
	if m.waiting {
		futexWake(m.word, 1<<30) // this goroutine among them
	}
	m.pass()
}

// sleep returns when the mutex was free, or its holder was found dead. One that
// leaves connections waiting, twice in a row, is stopped: that is no better.
func (m *mutex) sleep() {
	late := 0 // the holder when connections waited
	for !m.closed.Load() {
		v := atomic.LoadUint32(m.word)
		if v == 0 {
			return
		}
		if v&waiters == 0 {
			if !atomic.CompareAndSwapUint32(m.word, v, v|waiters) {
				continue
			}
			v |= waiters
		}
		if futexWait(m.word, v, mutexPatience) == unix.ETIMEDOUT {
			holder, waits := int(v&holderMask), m.connectionsWait()
			if dead(holder) || waits && holder == late {
				BreakMutex(m.word, holder)
			}
			if late = 0; waits {
				late = holder
			}
		}
		// Whoever was woken and finds it taken again asks for the next wake-up.
	}
}

// connectionsWait reports whether there is something to accept. The loop may have closed
// the descriptor by now; what a stranger's tells does no harm.
func (m *mutex) connectionsWait() bool { return pollable(m.fd) }

// dead reports whether a process has ended. It may be waiting for its parent, which
// is stopped, to hear of it: kill(2) still finds it then.
func dead(pid int) bool {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return unix.Kill(pid, 0) == unix.ESRCH
	}
	defer unix.Close(fd)
	return pollable(int32(fd))
}

func pollable(fd int32) bool {
	set := []unix.PollFd{{Fd: fd, Events: unix.POLLIN}}
	n, err := unix.Poll(set, 0)
	return err == nil && n > 0 && set[0].Revents&unix.POLLIN != 0
}

// BreakMutex frees a mutex word for the others if process pid holds it, as pid
// itself does or whoever knows that it is dead.
func BreakMutex(word *uint32, pid int) {
	for {
		v := atomic.LoadUint32(word)
		if v&holderMask != uint32(pid) {
			return
		}
		if atomic.CompareAndSwapUint32(word, v, 0) {
			if v&waiters != 0 {
				futexWake(word, 1)
			}
			return
		}
	}
}

// MutexHolder returns the process that holds a mutex word, 0 if none does.
func MutexHolder(word *uint32) int { return int(atomic.LoadUint32(word) & holderMask) }

const (
	futexWaitOp = 0 // FUTEX_WAIT, FUTEX_WAKE of linux/futex.h; shared between processes
	futexWakeOp = 1
)

// futexWait sleeps while the word is v.
func futexWait(word *uint32, v uint32, timeout time.Duration) unix.Errno {
	ts := unix.NsecToTimespec(int64(timeout))
	_, _, errno := unix.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(word)), futexWaitOp, uintptr(v),
		uintptr(unsafe.Pointer(&ts)), 0, 0)
	runtime.KeepAlive(&ts)
	return errno
}

func futexWake(word *uint32, n int) {
	_, _, _ = unix.RawSyscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(word)), futexWakeOp, uintptr(n), 0, 0, 0)
}
