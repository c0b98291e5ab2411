package upgrade

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"reuseportd/internal/config"
	"reuseportd/internal/control"
	"reuseportd/internal/lifecycle"
	"reuseportd/internal/wire"
)

// sendTimeout bounds a message to a worker. Its queue holds hundreds, so only a
// worker that has long been hung makes the master wait.
const sendTimeout = time.Second

// proc is a worker's process: a child of this master's, or of an earlier one's.
type proc struct {
	co    *coordinator
	id    lifecycle.ID
	conf  *config.Config
	pid   int
	start uint64 // when it began: record.StartTime
	pidfd int    // pidfd_open(2): it can't come to mean another process
	ch    *wire.Conn
	words int // its standard error until it is told something when it is ready, else -1
	// rescue is the inode of its rescue, 0 if it has none.
	rescue uint64
	pprof  string // the name of its socket for profiles
	// sandbox is what it was started with, nil when that is not known.
	sandbox *control.Sandbox

	attending *attendance // the present one, or the last
	lines     *pace       // of the log, that are about what it says
}

// newProc is a worker's process that is neither attended to nor the worker's yet.
func newProc(co *coordinator, id lifecycle.ID, pid int, start uint64, pidfd int, ch *wire.Conn) *proc {
	ch.RefuseFDs() // workers have none to send but when they are adopted
	return &proc{co: co, id: id, pid: pid, start: start, pidfd: pidfd, ch: ch, words: -1, lines: newPace(20, 1)}
}

// current reports whether the process is the one that its place has now.
func (p *proc) current() bool { return p.co.procs[p.id] == p }

func (p *proc) kill(sig unix.Signal) {
	if err := unix.PidfdSendSignal(p.pidfd, sig, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		p.co.log.Error().Err(err).Int("worker_pid", p.pid).Msg("can't signal a worker")
	}
}

// close lets go of the process, which is dead.
func (p *proc) close() {
	_ = p.co.dir.Remove(rescueName(p.id))
	_ = p.co.dir.Remove(p.pprof) // whichever master made it
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

// received tells the core what a worker has said. Whatever it says is about itself.
func (co *coordinator) received(p *proc, m wire.Message) {
	if m.Kind != wire.KindReady && m.Kind != wire.KindFailed {
		p.forgetWords() // it has been told something: worker.keepStderr
	}
	ev, err := p.decode(m)
	if err != nil {
		p.complain(errors.New(spoken(err.Error())), "a worker's message is not understood")
		return
	}
	if ready, ok := ev.(lifecycle.WorkerReady); ok {
		if ready.Sandbox, err = vouch(p.pid, p.conf.Credential, p.sandbox); err != nil {
			ev = lifecycle.WorkerFailed{ID: p.id, Text: err.Error()}
		} else {
			ev = ready
		}
	}
	co.handle(ev)
	co.quiet = m.Kind == wire.KindPong
}

// decode makes an event of a worker's message.
func (p *proc) decode(m wire.Message) (lifecycle.Event, error) {
	switch m.Kind {
	case wire.KindReady:
		b, err := decoded[wire.Ready](m)
		return lifecycle.WorkerReady{ID: p.id, Room: b.Room}, err
	case wire.KindFailed:
		b, err := decoded[wire.Failed](m)
		return lifecycle.WorkerFailed{ID: p.id, Text: spoken(b.Error)}, err
	}
	body, err := said(m)
	return lifecycle.WorkerSaid{ID: p.id, Body: body}, err
}

// said decodes a worker's other messages. Its texts are bounded, and printable.
func said(m wire.Message) (any, error) {
	switch m.Kind {
	case wire.KindLent:
		b, err := decoded[wire.Lent](m)
		b.Error = spoken(b.Error)
		return b, err
	case wire.KindWithdrawn:
		return decoded[wire.Withdrawn](m)
	case wire.KindPong:
		return decoded[wire.Pong](m)
	case wire.KindLost:
		b, err := decoded[wire.Lost](m)
		b.Error = spoken(b.Error)
		return b, err
	case wire.KindMaterialsTaken:
		b, err := decoded[wire.MaterialsTaken](m)
		b.Error = spoken(b.Error)
		return b, err
	case wire.KindBye:
		b, err := decoded[wire.Bye](m)
		b.Reason, b.Stayed = spoken(b.Reason), spoken(b.Stayed)
		return b, err
	case wire.KindUnknown:
		b, err := decoded[wire.Unknown](m)
		if err == nil && b.Kind != wire.KindMemory {
			err = fmt.Errorf("it doesn't know the message %s", b.Kind)
		}
		return b, err
	}
	return nil, fmt.Errorf("%s is not a worker's to say", m.Kind)
}

func decoded[T any](m wire.Message) (b T, err error) {
	err = m.Decode(&b)
	return b, err
}
