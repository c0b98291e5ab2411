package upgrade

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"reuseportd/internal/record"
	"reuseportd/internal/wire"
)

// privateEnv are the variables that are between a master and its parent.
var privateEnv = []string{"TABLEFLIP_HAS_PARENT_7DIU3=", "NOTIFY_SOCKET=", "LISTEN_FDS=", "LISTEN_PID=", "WATCHDOG_"}

// workerEnv returns the environment of workers: tableflip's mark in it would make
// a worker that ever used tableflip wait for a parent that isn't one.
func workerEnv() []string {
	return slices.DeleteFunc(os.Environ(), func(v string) bool {
		return slices.ContainsFunc(privateEnv, func(p string) bool { return strings.HasPrefix(v, p) })
	})
}

// Spawn starts a worker process from this process's own image, whatever stands
// in the file system by now, and sends it Start.
func (co *coordinator) Spawn(w *worker) (process, int, error) {
	ch, far, err := wire.Pair()
	if err != nil {
		return nil, 0, err
	}
	defer far.Close()
	pidfd := -1
	pid, err := startProcess(w, far, &pidfd)
	if err != nil {
		return nil, 0, errors.Join(err, ch.Close())
	}
	p := &proc{co: co, w: w, pid: pid, pidfd: pidfd, ch: ch}
	w.pid, w.started = pid, startedAt(pid)
	co.Record() // before it can have a client
	rescue, err := co.makeRescue(w)
	if err == nil {
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

// startedAt returns when a process was started that this master has a pidfd of, 0 if that
// can't be read: then no later master believes it.
func startedAt(pid int) uint64 {
	p, err := record.ProcessOf(pid)
	if err != nil {
		return 0
	}
	return p.Started
}

// sendStart sends the configuration and the descriptors that go with it; pprof is -1
// if there is none.
func (co *coordinator) sendStart(w *worker, p *proc, rescue, pprof int) error {
	g := w.gen
	memfd, err := wire.Memfd("reuseportd-config", g.conf.Raw)
	if err != nil {
		return err
	}
	defer unix.Close(memfd)
	msg := wire.Start{
		Generation: g.id, Index: w.index, Slots: w.slots, Path: g.conf.Path, Page: w.page,
		Workers: g.conf.Workers, CPUs: g.conf.CPUs,
		Files: []string{wire.FileConfig, wire.FileStats, wire.FileBoard, wire.FileRescue},
	}
	fds := []int{memfd, co.core.ledger.FD(), co.core.board.FD(), rescue}
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

// startProcess starts the worker with its own process group, as its own user,
// and with no_new_privs, which belongs to a thread and can't be taken back: the
// thread that starts it ends with the goroutine that is locked to it.
func startProcess(w *worker, far *os.File, pidfd *int) (int, error) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		return 0, err
	}
	defer null.Close()
	sys := &syscall.SysProcAttr{Setpgid: true, PidFD: pidfd}
	if cred := w.gen.conf.Credential; cred != nil {
		sys.Credential = &syscall.Credential{Uid: cred.UID, Gid: cred.GID, Groups: cred.Groups}
	}
	attr := &syscall.ProcAttr{
		Env: workerEnv(), Sys: sys,
		Files: []uintptr{null.Fd(), 1, 2, far.Fd()},
	}
	argv := []string{fmt.Sprintf("reuseportd: worker generation %d slot %d", w.gen.id, w.slots[0]), "worker"}
	type result struct {
		pid int
		err error
	}
	done := make(chan result, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked
		if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
			done <- result{0, fmt.Errorf("set no_new_privs: %w", err)}
			return
		}
		pid, _, err := syscall.StartProcess("/proc/self/exe", argv, attr)
		done <- result{pid, err}
	}()
	r := <-done
	runtime.KeepAlive(far)
	if r.err != nil {
		return 0, fmt.Errorf("start %s: %w", argv[0], r.err)
	}
	return r.pid, nil
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
