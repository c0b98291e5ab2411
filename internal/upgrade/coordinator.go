package upgrade

import (
	"context"
	"errors"
	"net"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/cloudflare/tableflip"
	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"reuseportd/internal/cgroup"
	"reuseportd/internal/config"
	"reuseportd/internal/config/watch"
	"reuseportd/internal/control"
	"reuseportd/internal/lifecycle"
	"reuseportd/internal/logging"
	"reuseportd/internal/material"
	"reuseportd/internal/parent"
	"reuseportd/internal/record"
	"reuseportd/internal/rundir"
	"reuseportd/internal/sdnotify"
	"reuseportd/internal/shortage"
)

// PIDFile is the name of the file in the runtime directory that holds the
// master's process ID.
const PIDFile = control.PIDFile

// Options are what a master is started with.
type Options struct {
	ConfigPath string // "" is the embedded default
	RuntimeDir string
	// UnsafeRuntimeDir uses it though others could reach it (rundir.Options).
	UnsafeRuntimeDir bool
	Version          string
	// Takeover asks the master that runs in RuntimeDir, if one does, for custody.
	Takeover bool
	// Force ends processes that pose as workers of an earlier master and are in no
	// master's record, for which the start would be refused.
	Force bool
	// Pprof gives each worker that this master starts a socket for its profiles.
	Pprof bool
	// OnServing is called at each cut-over, with what serves now. It must not
	// block.
	OnServing func(control.Status)
}

// coordinator is the master process: the core, and its hands.
type coordinator struct {
	core   *lifecycle.Core
	todo   []lifecycle.Action // what it wants, in order
	acting bool               // that is being done
	procs  map[lifecycle.ID]*proc
	gens   map[uint64]*genFiles
	tables lifecycle.Tables

	opts Options
	log  zerolog.Logger
	out  *logging.Output // the log in force

	events    chan func()
	errands   errands
	asks      chan ask // from the control socket
	upg       *tableflip.Upgrader
	patience  time.Duration // with a new binary, as told to tableflip
	dir       *rundir.Dir
	lock      *rundir.Lock
	listener  *net.UnixListener
	pred      *predecessor // until this master's cut-over is reported
	announced bool         // this master is the one that is known
	owner     bool         // the runtime directory is this master's to clean up
	successor *successor   // the latest attempt to have one
	watcher   *watch.Watcher
	unwatch   context.CancelFunc
	// fileWatcher looks at the materials; nil until there are some.
	fileWatcher  *material.Watcher
	unwatchFiles context.CancelFunc
	serving      context.Context    // of the control socket's service,
	serve        context.CancelFunc // which this ends
	servers      sync.WaitGroup     // one for each socket that it has had
	keeping      keeping            // of the runtime directory
	follower     *parent.Follower   // nil if nobody takes this process's end for that of the service

	outbox     []letter // what is to be told at the end of the turn
	recording  bool     // the record is this master's to write
	recorded   []byte   // what it holds, nil if that isn't known
	unrecorded bool     // it could not be written
	quiet      bool     // nothing changes by the turn

	group *cgroup.Group // nil if it is not known

	exiting bool
	status  int
	next    int // the PID of the master that took over, if one did
}

// post has f called by the one goroutine that owns the state.
func (co *coordinator) post(f func()) { co.events <- f }

// run is the master: whatever happens, happens here, one at a time.
func (co *coordinator) run(signals <-chan os.Signal) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	keep := time.NewTicker(keepEvery)
	defer keep.Stop()
	beat, stopBeats := beats()
	defer stopBeats()
	late := false
	for co.endTurn(); !co.exiting; co.endTurn() {
		wait := co.core.Wait()
		timer.Reset(wait)
		began := time.Now()
		select {
		case f := <-co.events:
			f()
		case a := <-co.asks:
			co.answer(a)
		case sig := <-signals:
			co.signal(sig)
		case _, ok := <-co.changes():
			if ok {
				co.handle(lifecycle.Request{Action: "reload", Cause: "the file has changed"})
			}
		case <-beat:
			_ = sdnotify.Alive()
			co.quiet = !co.unrecorded
		case <-keep.C:
			co.quiet = !co.keepDir() && !co.unrecorded
			co.keepAddresses()
			co.handle(lifecycle.Housekeep{})
			co.tellSlow()
		case <-timer.C:
			co.handle(lifecycle.Tick{Late: late || time.Since(began) > wait+lifecycle.Stalled})
			late = false
			continue
		}
		late = late || time.Since(began) > wait+lifecycle.Stalled
	}
}

// signal turns a signal into a request.
func (co *coordinator) signal(sig os.Signal) {
	switch sig {
	case syscall.SIGHUP:
		co.handle(lifecycle.Request{Action: "reload", Cause: lifecycle.CauseSignal})
	case syscall.SIGUSR2:
		co.handle(lifecycle.Request{Action: "upgrade", Cause: lifecycle.CauseSignal})
	case syscall.SIGUSR1:
		co.reopenLogs(true)
	default:
		_ = sdnotify.Stopping()
		co.handle(lifecycle.Request{Action: "stop", Cause: lifecycle.CauseSignal})
	}
}

func notifySignals() chan os.Signal {
	c := make(chan os.Signal, 64)
	signal.Notify(c, syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2,
		syscall.SIGTERM, syscall.SIGINT, syscall.SIGQUIT)
	// Whoever read the log may go away: that must not end the master. Caught and
	// not ignored, as what is ignored is inherited by children.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	return c
}

func load(path string) (*config.Config, error) {
	if path == "" {
		return config.Default(), nil
	}
	return config.Load(path)
}

// reloading tells the service manager.
func (co *coordinator) reloading() { _ = sdnotify.Reloading() }

// keepReceipts keeps them for a master that comes after a killed one.
func (co *coordinator) keepReceipts(receipts []*control.Receipt) {
	if err := saveReceipts(co.dir, receipts); err != nil {
		co.log.Error().Err(shortage.Explain(err)).Msg("receipts can't be kept for a master to come")
	}
}

// switched tells of a change that is over, and goes by the configuration that serves now.
func (co *coordinator) switched(r *control.Receipt) {
	conf := co.core.Conf()
	if co.pred != nil {
		co.pred.report(r, func() { co.post(func() { co.reopenLogs(false) }) })
		co.pred = nil
	}
	if r.Action == "stop" || conf == nil {
		return
	}
	if r.OK || co.watcher == nil {
		co.watch(conf, co.core.Seen(conf, r))
	}
	if r.OK {
		serving, _ := co.core.Serving()
		co.useLog(conf, co.logsOf(serving))
		if co.opts.OnServing != nil {
			co.opts.OnServing(*co.core.Status())
		}
	}
	_ = sdnotify.Ready(os.Getpid())
	_ = sdnotify.Status(statusLine(co.core))
}

// exit ends the master when the turn is over.
func (co *coordinator) exit(status int) { co.exiting, co.status = true, max(status, co.status) }

// setLog has the master write its log to out.
func (co *coordinator) setLog(out *logging.Output, c config.Log) {
	if old := co.out; old != nil && old != out && old != logging.Stderr() {
		old.Retire()
	}
	co.out = out
	co.log = out.Logger(c, func(with zerolog.Context) zerolog.Context {
		return with.Int("pid", os.Getpid()).Str("role", "master")
	})
	if co.core != nil {
		co.core.SetLog(co.log)
	}
}

// changes returns the channel that tells of a changed file, nil when it is not
// watched.
func (co *coordinator) changes() <-chan watch.Change {
	if co.watcher == nil {
		return nil
	}
	return co.watcher.C
}

// watch brings the watching of the file into line with the configuration. known is
// the hash of the content that is not to be loaded again.
func (co *coordinator) watch(conf *config.Config, known string) {
	switch {
	case !conf.Watch || conf.Path == "":
		if co.unwatch != nil {
			co.unwatch()
		}
		co.watcher, co.unwatch = nil, nil
	case co.watcher != nil:
		co.watcher.SetKnown(known)
	default:
		ctx, cancel := context.WithCancel(context.Background())
		co.unwatch = cancel
		co.watcher = watch.New(ctx, conf.Path, watch.Options{
			Read:  config.Read,
			Known: known,
			OnError: func(err error) {
				co.post(func() { co.log.Warn().Err(err).Msg("watching the configuration file") })
			},
		})
	}
}

// serveControl begins to answer on the control socket, once there is an answer to
// give: when the first generation of this master is about to serve.
func (co *coordinator) serveControl() {
	if co.serve != nil {
		return
	}
	co.serving, co.serve = context.WithCancel(context.Background())
	co.serveOn(co.listener)
}

// serveOn answers at one more socket; those before it are served to their ends.
func (co *coordinator) serveOn(l *net.UnixListener) {
	co.servers.Go(func() {
		if err := control.Serve(co.serving, l, co); err != nil && !errors.Is(err, net.ErrClosed) {
			co.post(func() { co.log.Error().Err(err).Msg("the control socket is out of service") })
		}
	})
}

// close lets go of everything. After an upgrade all of it is the next master's;
// at the end of the service nothing may be left behind.
func (co *coordinator) close() {
	if co.unwatch != nil {
		co.unwatch()
	}
	if co.unwatchFiles != nil {
		co.unwatchFiles()
	}
	if co.serve != nil {
		co.endControl()
	}
	if co.next != 0 || !co.owner {
		return
	}
	co.upg.Stop()
	if mine, err := co.lock.Current(); err != nil || !mine {
		co.log.Warn().Msg("the runtime directory is another master's by now: its files are left alone")
		return
	}
	_ = co.dir.Remove(PIDFile)
	_ = co.dir.Remove(control.SocketName)
	removeReceipts(co.dir)
	_ = record.Remove(co.dir)
	removeRescues(co.dir)
	removePprofs(co.dir, nil)
	if err := co.lock.Release(); err != nil {
		co.log.Error().Err(err).Msg("leaving the runtime directory")
	}
}

// endControl ends the control service. Answers that are due are given; who asks
// for something now is sent to the next master.
func (co *coordinator) endControl() {
	co.serve()
	served := make(chan struct{})
	go func() {
		co.servers.Wait()
		close(served)
	}()
	for {
		select {
		case a := <-co.asks:
			a.Tell(control.Response{Error: control.ErrSuperseded})
		case <-served:
			return
		}
	}
}

func dupFile(f *os.File) (int, error) {
	defer f.Close()
	return unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 3)
}
