package upgrade

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"reuseportd/internal/config"
	"reuseportd/internal/control"
	"reuseportd/internal/failpoint"
	"reuseportd/internal/record"
	"reuseportd/internal/sandbox"
	"reuseportd/internal/wire"
)

// Spawn starts a worker process from this process's own image, whatever stands
// in the file system by now. Start goes out at the end of the turn, when its PID is recorded.
func (co *coordinator) Spawn(w *worker, prepared *sandbox.Confinement) (process, int, error) {
	defer prepared.Close()
	ch, far, err := wire.Pair()
	if err != nil {
		return nil, 0, err
	}
	defer far.Close()
	words, err := makeWords()
	if err != nil {
		return nil, 0, errors.Join(err, ch.Close())
	}
	pid, pidfd, err := co.startProcess(w, prepared, far, words)
	if err != nil {
		_ = unix.Close(words)
		return nil, 0, errors.Join(err, ch.Close())
	}
	start, err := record.StartTime(pid) // it is a child and not waited for: there it is
	p := newProc(co, w, pid, start, pidfd, ch)
	p.words = words
	if err == nil {
		rescue := co.giveRescue(p)
		pprof := co.makePprof(w)
		err = co.sendStart(w, p, rescue, pprof)
		_ = unix.Close(rescue)
		_ = unix.Close(pprof)
	}
	if err != nil {
		p.Kill(unix.SIGKILL)
		co.post(func() {
			if w.proc == process(p) { // why counts, and not that it was killed
				co.core.workerFailed(w, fmt.Sprintf("can't tell it what to do: %v", err))
			}
		})
	}
	p.attend()
	return p, pid, nil
}

// sendStart sends the configuration and the descriptors that go with it; rescue
// and pprof are -1 if there is none.
func (co *coordinator) sendStart(w *worker, p *proc, rescue, pprof int) error {
	g := w.gen
	memfd, err := wire.Memfd("reuseportd-config", g.conf.Raw)
	if err != nil {
		return err
	}
	defer unix.Close(memfd)
	msg := wire.Start{
		Generation: g.id, Index: w.index, Slots: w.slots, Path: g.conf.Path, Page: w.page,
		Workers: g.conf.Workers, CPUs: g.conf.CPUs, Memory: w.share,
		Files:   []string{wire.FileConfig, wire.FileStats, wire.FileBoard, wire.FileClients},
		Clients: co.core.clients.Format(),
	}
	fds := []int{memfd, co.core.ledger.FD(), co.core.board.FD(), co.core.clients.FD()}
	if len(wantsOf(g.conf)) > 0 {
		fd, err := co.core.seal(w)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		msg.Files, fds = append(msg.Files, wire.FileMaterials), append(fds, fd)
	}
	if rescue >= 0 {
		msg.Files, fds = append(msg.Files, wire.FileRescue), append(fds, rescue)
	}
	if held := co.dir.Held(); held >= 0 {
		msg.Files, fds = append(msg.Files, wire.FileRunDir), append(fds, held)
	}
	if g.load != nil {
		msg.Files, fds = append(msg.Files, wire.FileLoad), append(fds, g.load.FD())
	}
	if pprof >= 0 {
		msg.Files, fds = append(msg.Files, wire.FilePprof), append(fds, pprof)
	}
	names, logs := g.files.list()
	msg.Files = append(msg.Files, names...)
	return p.Send(wire.KindStart, msg, append(fds, logs...)...)
}

// startProcess starts the worker in a process group of its own, confined before its program begins. The worker is
// executed as the master's user and becomes its own by itself; the master looks that it has before it lends it anything.
func (co *coordinator) startProcess(w *worker, confine *sandbox.Confinement, far *os.File, words int) (pid, pidfd int, err error) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		return 0, -1, err
	}
	defer null.Close()
	argv := []string{fmt.Sprintf("reuseportd: worker generation %d slot %d", w.gen.id, w.slots[0]), "worker"}
	if confine.User != nil {
		argv = append(argv, confine.User.Arg())
	}
	pid, pidfd, note, err := confine.Start(sandbox.Program{
		Path: "/proc/self/exe", Argv: argv, Env: sandbox.Environment(os.Environ(), failpoint.Env...),
		Files: []uintptr{null.Fd(), 1, uintptr(words), far.Fd(), 2}, // the last two are worker.ControlFD and worker.StderrFD
	})
	runtime.KeepAlive(far)
	if errors.Is(err, unix.EPERM) && confine.User != nil {
		err = fmt.Errorf("%w (as %s: give the master CAP_SETUID and CAP_SETGID)", err, w.gen.conf.Credential)
	}
	if err != nil {
		return 0, -1, fmt.Errorf("start %s: %w", argv[0], err)
	}
	w.kept = &control.Sandbox{Landlock: confine.Rules.ABI(), Note: note}
	if w.gen.conf.Sandbox.Landlock && confine.Rules == nil {
		w.kept.Note = strings.TrimPrefix(w.kept.Note+"; Landlock is not to be had: the kernel has none, or it isn't allowed", "; ")
	}
	return pid, pidfd, nil
}

// confinement is what a worker of a configuration is started with.
func confinement(conf *config.Config) (*sandbox.Confinement, error) {
	c := &sandbox.Confinement{User: conf.Credential.SandboxUser()}
	if !conf.Sandbox.Landlock {
		return c, nil
	}
	reach := sandbox.Reach{User: c.User, Roots: conf.Roots(), Names: conf.LooksUpNames()}
	if dir := failpoint.Dir(); dir != "" {
		reach.Writable = []string{dir}
	}
	var err error
	c.Rules, err = sandbox.NewRules(reach)
	return c, err
}

// vouch asks the kernel who a worker is and what is in force for it. Nothing is lent to one
// that hasn't become its user.
func (co *coordinator) vouch(w *worker) error {
	r, err := sandbox.ReadReport(w.pid)
	if err != nil {
		return fmt.Errorf("look at what is in force for the worker: %w", err)
	}
	if c := w.gen.conf.Credential; c != nil && (r.UID != c.UID || r.GID != c.GID) {
		return fmt.Errorf("the worker runs as uid %d, gid %d and not as %s: it is not used", r.UID, r.GID, c)
	}
	kept := control.Sandbox{} // a new one: a status may be under way with the other
	if w.kept != nil {
		kept = *w.kept
	}
	kept.UID, kept.GID = r.UID, r.GID
	kept.NoNewPrivs, kept.Seccomp, kept.Bounding = r.NoNewPrivs, r.Seccomp, fmt.Sprintf("%016x", r.Bounding)
	w.kept = &kept
	return nil
}

// Introduce implements host.
func (co *coordinator) Introduce(from, to seat, id uint64) error {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return err
	}
	co.core.tell(from.w, wire.KindHeir, wire.Heir{ID: id, Generation: to.w.gen.id, Slot: from.slot}, pair[0])
	co.core.tell(to.w, wire.KindWard, wire.Ward{Generation: from.w.gen.id, PID: from.w.pid, Slot: to.slot}, pair[1])
	_ = unix.Close(pair[0])
	_ = unix.Close(pair[1])
	return nil
}
