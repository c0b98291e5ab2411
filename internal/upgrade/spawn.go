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
	"reuseportd/internal/lifecycle"
	"reuseportd/internal/record"
	"reuseportd/internal/sandbox"
	"reuseportd/internal/wire"
)

// spawn starts a worker process from this process's own image, whatever stands
// in the file system by now. Start goes out at the end of the turn, when its PID is recorded.
func (co *coordinator) spawn(a lifecycle.Spawn) {
	p, err := co.makeProc(a)
	a.Prepared.Close()
	if err != nil {
		co.handle(lifecycle.Spawned{ID: a.ID, Err: err})
		return
	}
	co.procs[a.ID] = p
	co.handle(lifecycle.Spawned{ID: a.ID, PID: p.pid, Sandbox: p.sandbox})
	if err := co.sendStart(a, p); err != nil {
		p.kill(unix.SIGKILL)
		// Why counts, and not that it was killed.
		co.handle(lifecycle.WorkerFailed{ID: a.ID, Text: fmt.Sprintf("can't tell it what to do: %v", err)})
	}
	p.attend()
}

// makeProc starts the process, which nothing is said to yet.
func (co *coordinator) makeProc(a lifecycle.Spawn) (*proc, error) {
	ch, far, err := wire.Pair()
	if err != nil {
		return nil, err
	}
	defer far.Close()
	words, err := makeWords()
	if err != nil {
		return nil, errors.Join(err, ch.Close())
	}
	pid, pidfd, kept, err := startProcess(a, far, words)
	if err != nil {
		_ = unix.Close(words)
		return nil, errors.Join(err, ch.Close())
	}
	start, _ := record.StartTime(pid) // it is a child and not waited for: there it is
	p := newProc(co, a.ID, pid, start, pidfd, ch)
	p.conf, p.pprof, p.words, p.sandbox = a.Conf, pprofName(a.ID.Generation, a.Slots[0]), words, kept
	return p, nil
}

// sendStart sends the configuration and the descriptors that go with it.
func (co *coordinator) sendStart(a lifecycle.Spawn, p *proc) error {
	msg := wire.Start{
		Generation: a.ID.Generation, Index: a.ID.Index, Slots: a.Slots, Path: a.Conf.Path, Page: a.Page,
		Workers: a.Conf.Workers, CPUs: a.Conf.CPUs, Memory: a.Share, Clients: co.tables.Clients.Format(),
	}
	var fds []int
	add := func(name string, fd int) {
		if fd >= 0 {
			msg.Files, fds = append(msg.Files, name), append(fds, fd)
		}
	}
	var own []int // closed when they are sent
	defer func() {
		for _, fd := range own {
			_ = unix.Close(fd)
		}
	}()
	conf, err := wire.Memfd("reuseportd-config", a.Conf.Raw)
	if err != nil {
		return err
	}
	own = append(own, conf)
	add(wire.FileConfig, conf)
	add(wire.FileStats, co.tables.Ledger.FD())
	add(wire.FileBoard, co.tables.Board.FD())
	add(wire.FileClients, co.tables.Clients.FD())
	if a.Materials != nil {
		fd, err := wire.Memfd("reuseportd-materials", a.Materials.Encode())
		if err != nil {
			return err
		}
		own = append(own, fd)
		add(wire.FileMaterials, fd)
	}
	for name, fd := range map[string]int{wire.FileRescue: co.giveRescue(p), wire.FilePprof: co.makePprof(p)} {
		if fd >= 0 {
			own = append(own, fd)
			add(name, fd)
		}
	}
	add(wire.FileRunDir, co.dir.Held())
	if a.Load != nil {
		add(wire.FileLoad, a.Load.FD())
	}
	names, logs := co.logsOf(a.ID.Generation).list()
	msg.Files = append(msg.Files, names...)
	return p.send(wire.KindStart, msg, append(fds, logs...)...)
}

// startProcess starts the worker in a process group of its own, confined before its program begins. The worker is
// executed as the master's user and becomes its own by itself; the master looks that it has before it lends it anything.
func startProcess(a lifecycle.Spawn, far *os.File, words int) (pid, pidfd int, kept *control.Sandbox, err error) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		return 0, -1, nil, err
	}
	defer null.Close()
	confine := a.Prepared
	argv := []string{fmt.Sprintf("reuseportd: worker generation %d slot %d", a.ID.Generation, a.Slots[0]), "worker"}
	if confine.User != nil {
		argv = append(argv, confine.User.Arg())
	}
	pid, pidfd, note, err := confine.Start(sandbox.Program{
		Path: "/proc/self/exe", Argv: argv, Env: sandbox.Environment(os.Environ(), failpoint.Env...),
		Files: []uintptr{null.Fd(), 1, uintptr(words), far.Fd(), 2}, // the last two are worker.ControlFD and worker.StderrFD
	})
	runtime.KeepAlive(far)
	if errors.Is(err, unix.EPERM) && confine.User != nil {
		err = fmt.Errorf("%w (as %s: give the master CAP_SETUID and CAP_SETGID)", err, a.Conf.Credential)
	}
	if err != nil {
		return 0, -1, nil, fmt.Errorf("start %s: %w", argv[0], err)
	}
	kept = &control.Sandbox{Landlock: confine.Rules.ABI(), Note: note}
	if a.Conf.Sandbox.Landlock && confine.Rules == nil {
		kept.Note = strings.TrimPrefix(kept.Note+"; Landlock is not to be had: the kernel has none, or it isn't allowed", "; ")
	}
	return pid, pidfd, kept, nil
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

// vouch asks the kernel who a worker is and what is in force for it, beside what it was started with, if that is known. Nothing
// is lent to one that hasn't become its user.
func vouch(pid int, who *config.Credential, started *control.Sandbox) (*control.Sandbox, error) {
	r, err := sandbox.ReadReport(pid)
	if err != nil {
		return started, fmt.Errorf("look at what is in force for the worker: %w", err)
	}
	if who != nil && (r.UID != who.UID || r.GID != who.GID) {
		return started, fmt.Errorf("the worker runs as uid %d, gid %d and not as %s: it is not used", r.UID, r.GID, who)
	}
	kept := control.Sandbox{} // a new one: a status may be under way with the other
	if started != nil {
		kept = *started
	}
	kept.UID, kept.GID = r.UID, r.GID
	kept.NoNewPrivs, kept.Seccomp, kept.Bounding = r.NoNewPrivs, r.Seccomp, fmt.Sprintf("%016x", r.Bounding)
	return &kept, nil
}
