// Package worker is the process that serves: event loops and services built from what the
// master sent, and how they drain.
//
// It owns the worker's end of the control channel, and hands connections to other
// workers. It must never read the configuration file or bind a socket. It decides nothing
// about its own life, except that it serves on without a master, and exits at the
// deadline of a drain.
//
// How it works. setUp (main.go) receives Start and builds loops and services (build.go,
// tls.go, upstreams.go). run (worker.go) is the goroutine that carries out the master's
// messages, one at a time; other goroutines post functions to its mailbox. A drain
// (drain.go) gives connections to heirs (give.go), whose loops take them (take.go). A
// worker whose master is gone waits for another one (orphan.go). Each second memory.go
// compares the process's memory with its bound.
package worker

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"reuseportd/internal/config"
	"reuseportd/internal/eventloop"
	"reuseportd/internal/failpoint"
	"reuseportd/internal/load"
	"reuseportd/internal/logging"
	"reuseportd/internal/sandbox"
	"reuseportd/internal/stats"
	"reuseportd/internal/threads"
	"reuseportd/internal/upstream"
	"reuseportd/internal/wire"
)

// ControlFD is the descriptor of a worker's control channel.
const ControlFD = 3

// Name gives the process its name, which is that of its first thread: it must be called by an
// init function, as these run on that one. Otherwise a process started from /proc/self/exe is
// shown as `exe` by ps and top.
func Name() {
	name := [16]byte{}
	copy(name[:], "reuseportd")
	_ = unix.Prctl(unix.PR_SET_NAME, uintptr(unsafe.Pointer(&name[0])), 0, 0, 0)
}

// Main runs a worker process to its end and returns its exit status. args are its arguments
// without its name.
func Main(args []string) int {
	entered := sandbox.Enter(args) // before anything is read
	// Only the master speaks to a worker. It is in a process group of its own, so a
	// terminal's signals don't reach it; these signals come from `pkill reuseportd`.
	signal.Ignore(syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM,
		syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGPIPE)
	ch, err := wire.FromFD(ControlFD)
	if err != nil {
		fmt.Fprintf(os.Stderr, "reuseportd worker: %v; a worker is started by its master only\n", err)
		return 2
	}
	if entered != nil {
		_ = ch.Send(wire.KindFailed, wire.Failed{Error: entered.Error()})
		return 1
	}
	w, err := setUp(ch)
	switch {
	case errors.Is(err, io.EOF):
		return 0 // the master doesn't need this worker any more
	case err != nil:
		_ = ch.Send(wire.KindFailed, wire.Failed{Error: err.Error()})
		return 1
	}
	defer w.out.Flush(lastLines)
	return w.run()
}

// lastLines bounds how long an exiting worker waits for its log to be written.
const lastLines = time.Second

// setUp receives Start and builds everything that can fail.
func setUp(ch *wire.Conn) (*worker, error) {
	m, err := ch.Recv()
	if err != nil {
		return nil, err
	}
	defer m.Close()
	if m.Kind != wire.KindStart {
		return nil, fmt.Errorf("first message is %s, want %s", m.Kind, wire.KindStart)
	}
	var start wire.Start
	if err := m.Decode(&start); err != nil {
		return nil, err
	}
	if err := failpoint.Hit("worker-start"); err != nil {
		return nil, err
	}
	files := newFiles(m, start.Files)
	raw, err := wire.ReadMemfd(files.fd(wire.FileConfig))
	if err != nil {
		return nil, fmt.Errorf("read the configuration from the master: %w", err)
	}
	conf, err := config.ParseTrusted(start.Path, raw)
	if err != nil {
		return nil, err
	}
	conf.Workers, conf.CPUs = start.Workers, start.CPUs // before anybody else sees it
	materials, err := openMaterials(files.fd(wire.FileMaterials))
	if err != nil {
		return nil, err
	}
	region, err := stats.MapPages(files.take(wire.FileStats), start.Page, len(start.Slots))
	if err != nil {
		return nil, fmt.Errorf("map the counters: %w", err)
	}
	var told *load.Table
	if fd := files.take(wire.FileLoad); fd >= 0 {
		if told, err = load.Open(fd, slices.Max(start.Slots)+1); err != nil {
			return nil, err
		}
	}
	board, err := openBoard(files.take(wire.FileBoard))
	if err != nil {
		return nil, err
	}
	counted, err := openClients(files.take(wire.FileClients), start.Clients)
	if err != nil {
		return nil, err
	}
	out := logging.Stderr()
	if fd := files.take(wire.FileLog); fd >= 0 {
		out = logging.NewOutput(fd, logging.File{})
	}
	rescue, err := listenRescue(files.take(wire.FileRescue))
	if err != nil {
		return nil, err
	}
	profiles, noProfiles := listenPprof(files.take(wire.FilePprof))
	runtime.GOMAXPROCS(len(start.Slots) + 1)
	reserved := threads.Reserve(threads.OfWorker(len(start.Slots))) // threads are made while the rest is built
	w := &worker{
		ch: ch, conf: conf, files: files, out: out, materials: materials,
		start: start, rescue: rescue, held: files.take(wire.FileRunDir), pprof: profiles, master: master(ch),
		region: region, board: board, clients: counted, load: told, unordered: make(map[string]bool), budget: eventloop.NewBudget(), mail: newMailbox(),
		log: out.Logger(conf.Log, func(with zerolog.Context) zerolog.Context {
			return with.Int("pid", os.Getpid()).Uint64("generation", start.Generation)
		}),
	}
	if noProfiles != nil {
		w.log.Error().Err(noProfiles).Msg("this worker gives no profiles")
	}
	w.pin()
	if w.upstreams, err = upstream.New(conf.Upstreams, board, w.upstreamChanged); err != nil {
		return nil, err
	}
	w.setMemory(start.Memory)
	if err := w.build(start.Slots, region); err != nil {
		return nil, err
	}
	w.budget.Settle()
	reserved()
	return w, nil
}

// master returns the user of the process that made the control channel.
func master(ch *wire.Conn) uint32 {
	fd, err := ch.Dup()
	if err != nil {
		return 0
	}
	defer unix.Close(fd)
	cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return 0
	}
	return cred.Uid
}

// files are the descriptors that came with a message, by name.
type files struct {
	m     wire.Message
	index map[string]int
}

func newFiles(m wire.Message, names []string) files {
	f := files{m: m, index: make(map[string]int)}
	for i, name := range names {
		f.index[name] = i
	}
	return f
}

// fd returns a descriptor that stays f's, take one that is the caller's to close; -1 if
// there is none.
func (f files) fd(name string) int {
	if i, ok := f.index[name]; ok && i < len(f.m.FDs) {
		return f.m.FDs[i]
	}
	return -1
}

func (f files) take(name string) int {
	if i, ok := f.index[name]; ok {
		return f.m.Take(i)
	}
	return -1
}

// reopen replaces the log files in use by newly opened ones, by dup2(2), so that every
// writer keeps its descriptor.
func (w *worker) reopen(f files) {
	for name := range f.index {
		old := -1
		switch {
		case name == wire.FileLog:
			old = w.out.FD()
		case strings.HasPrefix(name, wire.FileAccess):
			old = w.accessFDs[name]
		}
		if fd := f.fd(name); fd >= 0 && old > 0 {
			if err := unix.Dup3(fd, old, unix.O_CLOEXEC); err != nil {
				w.log.Error().Err(err).Str("file", name).Msg("can't go over to the reopened log file; the old one is used on")
			}
		}
	}
}
