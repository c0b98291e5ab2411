package eventloop

// A listening socket with a mutex is watched by the loop that holds it. The loop tries
// before each wait and gives it up when it has events to serve: first it accepts,
// then it unlocks, and only then it serves. While another loop holds it, a
// goroutine waits for it, so the loop serves its other events at once.

// contend tries to get the mutexes of the loop's listeners. It comes before a wait.
func (l *Loop) contend() {
	for _, ln := range l.listeners {
		switch {
		case ln.mutex == nil || ln.held || ln.broken:
		case l.rest != 0:
			ln.mutex.pass()
		case ln.mutex.tryLock():
			ln.held = true
			l.rewatch(ln)
		default:
			l.unwatch(ln) // it was watched on since the last turn
			ln.mutex.await()
		}
	}
}

// acceptHeld serves the listeners whose mutexes the loop holds, ahead of all else that
// the n events ask for, and unlocks them.
func (l *Loop) acceptHeld(n int) {
	for i := range l.events[:n] {
		ev := &l.events[i]
		if uint32(ev.Pad)&special == 0 {
			continue
		}
		for _, ln := range l.listeners {
			if ln.fd == ev.Fd && ln.held {
				l.accept(ln)
				break
			}
		}
	}
	for _, ln := range l.listeners {
		l.unlock(ln)
	}
}

// unlock gives a listener's mutex up, if it is held. Whether it can be watched on shows
// before the next wait.
func (l *Loop) unlock(ln *Listener) {
	if ln.held {
		ln.held = false
		ln.mutex.unlock()
	}
}

// mutexWoke is called when the mutex of a listener may be free.
func (l *Loop) mutexWoke(ln *Listener) {
	l.vain++ // as the accept of a listener whose connection is gone
	ln.mutex.woke()
}

// leaveMutex is the end of a listener's use of its mutex.
func (l *Loop) leaveMutex(ln *Listener) {
	if ln.mutex != nil {
		l.unlock(ln)
		ln.mutex.close()
		l.mutexes--
	}
}
