package upgrade

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"reuseportd/internal/wire"
)

// sendTimeout bounds a message to a worker. Its queue holds hundreds, so only a
// worker that has long been hung makes the master wait.
const sendTimeout = time.Second

// proc is a worker's process: a child of this master's, or of an earlier one's.
type proc struct {
	co    *coordinator
	w     *worker
	pid   int
	start uint64 // when it began: record.StartTime
	pidfd int    // pidfd_open(2): it can't come to mean another process
	ch    *wire.Conn
	words int // its standard error until it is told something when it is ready, else -1
	// rescue is the inode of its rescue, 0 if it has none.
	rescue uint64

	attending *attendance // the present one, or the last
	lines     *pace       // of the log, that are about what it says
}

// newProc is a worker's process that is neither attended to nor the worker's yet.
func newProc(co *coordinator, w *worker, pid int, start uint64, pidfd int, ch *wire.Conn) *proc {
	ch.RefuseFDs() // workers have none to send but when they are adopted
	return &proc{co: co, w: w, pid: pid, start: start, pidfd: pidfd, ch: ch, words: -1, lines: newPace(20, 1)}
}

// Kill implements process.
func (p *proc) Kill(sig unix.Signal) {
	if err := unix.PidfdSendSignal(p.pidfd, sig, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		p.co.log.Error().Err(err).Int("worker_pid", p.pid).Msg("can't signal a worker")
	}
}

// Close implements process.
func (p *proc) Close() {
	p.co.removeRescue(p.w)
	p.co.removePprof(p.w)
	_ = p.ch.Close()
	_ = unix.Close(p.pidfd)
	p.forgetWords()
}

// await waits for the process's end and says how it was. An earlier master's
// worker is not a child, and its status is not to be had.
func (p *proc) await() string {
	fds := []unix.PollFd{{Fd: int32(p.pidfd), Events: unix.POLLIN}}
	for {
		if _, err := unix.Poll(fds, -1); !errors.Is(err, unix.EINTR) {
			break
		}
	}
	var ws unix.WaitStatus
	pid, err := unix.Wait4(p.pid, &ws, unix.WNOHANG, nil)
	switch {
	case err != nil || pid != p.pid:
		return "ended"
	case ws.Signaled():
		return fmt.Sprintf("killed by %s", unix.SignalName(ws.Signal()))
	default:
		return fmt.Sprintf("exit status %d", ws.ExitStatus())
	}
}

// received hands a worker's message to the core. Whatever it says is about itself.
func (co *coordinator) received(p *proc, m wire.Message) {
	w := p.w
	if m.Kind != wire.KindReady && m.Kind != wire.KindFailed {
		p.forgetWords() // it has been told something: worker.keepStderr
	}
	var err error
	switch m.Kind {
	case wire.KindReady:
		if bad := co.vouch(w); bad != nil {
			co.core.workerFailed(w, bad.Error())
			break
		}
		var b wire.Ready
		if err = m.Decode(&b); err == nil {
			w.room = b.Room
			co.core.workerReady(w)
		}
	case wire.KindFailed:
		var b wire.Failed
		if err = m.Decode(&b); err == nil {
			co.core.workerFailed(w, spoken(b.Error))
		}
	case wire.KindLent:
		var b wire.Lent
		if err = m.Decode(&b); err == nil {
			b.Error = spoken(b.Error)
			co.core.workerLent(w, b)
		}
	case wire.KindWithdrawn:
		var b wire.Withdrawn
		if err = m.Decode(&b); err == nil {
			co.core.workerWithdrawn(w, b)
		}
	case wire.KindPong:
		var b wire.Pong
		if err = m.Decode(&b); err == nil {
			co.core.workerPong(w, b)
			co.quiet = true
		}
	case wire.KindLost:
		var b wire.Lost
		if err = m.Decode(&b); err == nil {
			co.core.workerLost(w, b)
		}
	case wire.KindMaterialsTaken:
		var b wire.MaterialsTaken
		if err = m.Decode(&b); err == nil {
			b.Error = spoken(b.Error)
			co.core.materialsTaken(w, b)
		}
	case wire.KindBye:
		var b wire.Bye
		if err = m.Decode(&b); err == nil {
			w.lastErr = spoken(b.Reason)
			if b.HandedOver.After(w.gen.handedOver) && !b.HandedOver.After(co.core.now) {
				w.gen.handedOver = b.HandedOver
			}
			if b.Stayed != "" && w.gen.stayed == "" {
				w.gen.stayed = brief(b.Stayed)
			}
		}
	case wire.KindUnknown:
		var b wire.Unknown
		if err = m.Decode(&b); err == nil && b.Kind == wire.KindMemory {
			w.sharesNot = true
		} else if err == nil {
			err = fmt.Errorf("it doesn't know the message %s", b.Kind)
		}
	default:
		err = fmt.Errorf("%s is not a worker's to say", m.Kind)
	}
	if err != nil {
		p.complain(errors.New(spoken(err.Error())), "a worker's message is not understood")
	}
}
