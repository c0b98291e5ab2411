package upgrade

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
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
	pidfd int // pidfd_open(2): it can't come to mean another process
	ch    *wire.Conn

	attending sync.WaitGroup
	watch     *watch // of the process's end, while it is attended to
}

// lastMessages is how long a dead worker's messages are still read. They are in the channel
// already, and its end behind them, unless somebody holds a duplicate of the worker's end.
const lastMessages = 200 * time.Millisecond

// Send implements process.
func (p *proc) Send(kind wire.Kind, body any, fds ...int) error {
	if err := p.ch.SetWriteDeadline(time.Now().Add(sendTimeout)); err != nil {
		return err
	}
	return p.ch.Send(kind, body, fds...)
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
	p.watch.stop()
	_ = p.ch.Close()
	_ = unix.Close(p.pidfd)
}

// attend passes on what the worker says, then its death, in that order. It ends
// early, with nothing lost, when neglect is called. The death is what its pidfd says: the end of
// the channel can be kept away by anybody who has stolen a duplicate of it.
func (p *proc) attend() {
	p.attending.Add(1)
	p.watch = watchEnd(p.pidfd, func() { _ = p.ch.SetReadDeadline(time.Now().Add(lastMessages)) })
	go func() {
		defer p.attending.Done()
		for {
			m, err := p.ch.Recv()
			switch {
			case errors.Is(err, os.ErrDeadlineExceeded) && !p.watch.ended():
				return
			case errors.Is(err, io.EOF), errors.Is(err, os.ErrClosed), errors.Is(err, os.ErrDeadlineExceeded):
				status := p.await()
				p.co.post(func() {
					if p.w.proc == process(p) {
						p.co.core.workerExited(p.w, status)
					}
				})
				return
			case err != nil:
				if _, ok := wire.IsUnknown(err); !ok {
					p.co.post(func() { p.co.log.Error().Err(err).Int("worker_pid", p.pid).Msg("a message from a worker was lost") })
				}
				continue
			}
			p.co.post(func() {
				defer m.Close()
				if p.w.proc == process(p) {
					p.co.received(p.w, m)
				}
			})
		}
	}()
}

// neglect stops attend; what the worker says from here on waits in its channel,
// for whoever attends to it next.
func (p *proc) neglect() error {
	p.watch.stop()
	if err := p.ch.StopReading(); err != nil {
		return err
	}
	p.attending.Wait()
	return nil
}

// resume undoes neglect.
func (p *proc) resume() error {
	if err := p.ch.ResumeReading(); err != nil {
		return err
	}
	p.attend()
	return nil
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

// received hands a worker's message to the core.
func (co *coordinator) received(w *worker, m wire.Message) {
	var err error
	switch m.Kind {
	case wire.KindReady:
		var b wire.Ready
		if err = m.Decode(&b); err == nil {
			w.room = b.Room
			co.core.workerReady(w)
		}
	case wire.KindFailed:
		var b wire.Failed
		if err = m.Decode(&b); err == nil {
			co.core.workerFailed(w, b.Error)
		}
	case wire.KindLent:
		var b wire.Lent
		if err = m.Decode(&b); err == nil {
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
		}
	case wire.KindLost:
		var b wire.Lost
		if err = m.Decode(&b); err == nil {
			co.core.workerLost(w, b)
		}
	case wire.KindBye:
		var b wire.Bye
		if err = m.Decode(&b); err == nil {
			w.lastErr = b.Reason
			if b.HandedOver.After(w.gen.handedOver) {
				w.gen.handedOver = b.HandedOver
			}
			if b.Stayed != "" && w.gen.stayed == "" {
				w.gen.stayed = brief(b.Stayed)
			}
		}
	default:
		err = fmt.Errorf("%s is not a worker's to say", m.Kind)
	}
	if err != nil {
		co.log.Error().Err(err).Int("worker_pid", w.pid).Msg("a worker's message is not understood")
	}
}
