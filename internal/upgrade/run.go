package upgrade

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/cloudflare/tableflip"

	"reuseportd/internal/config"
	"reuseportd/internal/control"
	"reuseportd/internal/lifecycle"
	"reuseportd/internal/logging"
	"reuseportd/internal/rundir"
	"reuseportd/internal/sdnotify"
	"reuseportd/internal/stats"
	"reuseportd/internal/threads"
)

// lastLines bounds how long the end of a master waits for its log, and for the service manager.
const lastLines = time.Second

// Run is a master process, from its start to its exit status. An error is why it
// could not start; everything later is told by log, status and receipts.
func Run(o Options) (int, error) {
	signals := notifySignals()
	threads.Reserve(threads.OfMaster())()
	conf, confErr := loadFirst(o.ConfigPath, signals)
	dir, err := rundir.Open(o.RuntimeDir, rundir.Options{Make: confErr == nil, Unsafe: o.UnsafeRuntimeDir})
	if err != nil {
		if confErr != nil {
			err = confErr
		}
		return 1, err
	}
	upg, err := tableflip.New(tableflip.Options{
		UpgradeTimeout: upgradeTimeout(conf),
	})
	if err != nil {
		return 1, fmt.Errorf("prepare for upgrades: %w", err)
	}
	co := &coordinator{
		opts: o, dir: dir, patience: upgradeTimeout(conf), upg: upg, events: make(chan func(), 1024), asks: make(chan ask),
		errands: make(errands), procs: make(map[lifecycle.ID]*proc), gens: make(map[uint64]*genFiles),
	}
	logConf := config.Log{Level: "info", Format: "json"}
	if conf != nil {
		logConf = conf.Log
	}
	co.setLog(logging.Stderr(), logConf)
	defer func() {
		sdnotify.Flush(lastLines)
		co.out.Flush(lastLines)
	}()
	if upg.HasParent() {
		co.joinLog(conf)
	}
	if dir.Unsafe() {
		co.log.Warn().Str("directory", dir.Path()).Msg("the runtime directory is used unchecked (--unsafe-runtime-dir): whoever can write to it, or above it, can pose as master or worker")
	}
	if err := dir.Hold(time.Second); err != nil {
		co.log.Warn().Err(err).Msg("cleaners of old files are not kept away from the runtime directory for now")
	}
	if kind := dir.Remote(); kind != "" {
		co.log.Warn().Str("directory", dir.Path()).Str("file_system", kind).
			Msg("the runtime directory is not on a local file system: while that does not answer, this master does nothing else")
	}
	co.core = lifecycle.New(co.log, o.Version, os.Getpid(), raiseNoFile(), time.Now())
	co.findGroup()
	co.findFollower()
	if err := co.start(conf, confErr); err != nil {
		if len(co.core.Generations()) > 0 {
			co.owner = false // what is there is for a better master to adopt
		}
		co.close()
		return 1, err
	}
	co.run(signals)
	co.close()
	co.forward(signals) // the last thing: what comes later finds no process
	return co.status, co.why()
}

// why is what made the exit status other than 0, if that is known.
func (co *coordinator) why() error {
	all := co.core.Receipts()
	if n := len(all); n > 1 && all[n-1].Action == "stop" { // a start may have ended in one
		all = all[:n-1]
	}
	if n := len(all); co.status != 0 && n > 0 && !all[n-1].OK {
		return errors.New(all[n-1].Error)
	}
	return nil
}

// start comes into possession of the runtime directory, by lock, by custody or
// by both, and begins the first change.
func (co *coordinator) start(conf *config.Config, confErr error) error {
	begin := lifecycle.Begin{Action: "start", Cause: "start", Started: time.Now(), Fatal: true}
	if err := co.greet(); err != nil {
		return fmt.Errorf("take over from the running master: %w", err)
	}
	if co.pred != nil {
		begin.Action, begin.Cause, begin.Masters = "upgrade", "start of the next master", true
		var err error
		if conf, err = co.takeSockets(conf, confErr); err != nil {
			co.pred.failEarly(err)
			return err
		}
		co.joinLog(conf)
		if end := co.pred.cu.end; end.Action != "" {
			begin.Action, begin.Cause, begin.Started = end.Action, end.Cause, end.Started
		}
	} else {
		if confErr != nil {
			return confErr
		}
		orphans, err := co.own(conf.WorkerTimeout)
		if err != nil {
			co.owner = co.owner && orphans == 0 // else what is there is theirs
			return err
		}
		if orphans > 0 {
			begin.Cause = fmt.Sprintf("start with %d workers that an earlier master left", orphans)
			begin.Fatal = false // they serve on, whatever becomes of the new generation
			if err := co.announce(true); err != nil {
				return err
			}
			co.handle(lifecycle.Established{})
			co.reopenLogs(false)
		}
	}
	begin.Conf = conf
	co.handle(begin)
	return nil
}

// own takes the runtime directory for a first master, with the workers that are
// left of an earlier one. It returns their number.
func (co *coordinator) own(patience time.Duration) (int, error) {
	lock, err := co.dir.Lock()
	if err != nil {
		return 0, err
	}
	co.lock = lock
	if err := masterLives(co.dir); err != nil {
		return 0, err
	}
	if co.listener, err = control.Listen(co.dir); err != nil {
		return 0, err
	}
	co.keeping.socket = co.dir.Inode(control.SocketName)
	co.owner = true
	co.handle(lifecycle.Keeper{})
	if co.tables.Ledger, err = stats.NewLedger(); err != nil {
		return 0, err
	}
	if err := co.takeBoard(-1, ""); err != nil {
		return 0, err
	}
	if err := co.takeClients(-1, ""); err != nil {
		return 0, err
	}
	co.handle(co.tables)
	orphans, err := co.adoptOrphans(patience)
	if err == nil {
		co.sweepPprofs()
		co.recording = true
	}
	return orphans, err
}

// raiseNoFile raises the descriptor limit to the hard limit, for this process and
// those it starts, and returns it. getrlimit(2).
func raiseNoFile() uint64 {
	var lim syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &lim) != nil {
		return 0
	}
	lim.Cur = lim.Max
	_ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &lim)
	_ = syscall.Getrlimit(syscall.RLIMIT_NOFILE, &lim)
	return lim.Cur
}

// statusLine is what the service manager shows of the service.
func statusLine(c *lifecycle.Core) string {
	id, workers := c.Serving()
	if id == 0 {
		return "no generation serves"
	}
	return fmt.Sprintf("generation %d serves with %d workers", id, workers)
}
