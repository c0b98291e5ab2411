package upgrade

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"reuseportd/internal/config"
	"reuseportd/internal/control"
	"reuseportd/internal/lifecycle"
	"reuseportd/internal/logging"
	"reuseportd/internal/wire"
)

// logFiles are the open log files of a generation. The master opens them, as it
// may do what a worker's user may not.
type logFiles struct {
	names []string // as in wire.Start.Files
	files []*os.File
	ids   []logging.File
}

// logPaths returns the names and paths of the log files of a configuration.
func logPaths(c *config.Config) (names, paths []string) {
	if c.Log.File != "" {
		names, paths = append(names, wire.FileLog), append(paths, c.Log.File)
	}
	seen := make(map[string]bool)
	for i := range c.Listeners {
		h := c.Listeners[i].HTTP
		if h == nil || h.AccessLog == nil || h.AccessLog.File == "-" || seen[h.AccessLog.File] {
			continue
		}
		seen[h.AccessLog.File] = true
		names, paths = append(names, wire.FileAccess+h.AccessLog.File), append(paths, h.AccessLog.File)
	}
	return names, paths
}

// openLogs opens every log file of a configuration for appending.
func openLogs(e *lifecycle.Errand, c *config.Config) (*logFiles, error) {
	names, paths := logPaths(c)
	lf := &logFiles{names: names}
	for _, path := range paths {
		e.At("opening the log " + path)
		f, err := openLog(path)
		if err != nil {
			lf.Close()
			return nil, fmt.Errorf("open log: %w", err)
		}
		lf.files, lf.ids = append(lf.files, f), append(lf.ids, identify(f))
	}
	return lf, nil
}

// openLog opens one file without waiting: a FIFO that nobody reads is an error
// (ENXIO), and one that is read, or a terminal, is written to like a file.
func openLog(path string) (*os.File, error) {
	fd, err := openTrusted(path, unix.O_APPEND|unix.O_CREAT|unix.O_WRONLY|unix.O_NONBLOCK, 0o640)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	if err := unix.SetNonblock(fd, false); err != nil {
		_ = unix.Close(fd)
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}

// identify asks for a file's device and inode, which can take as long as opening it.
func identify(f *os.File) logging.File {
	var st unix.Stat_t
	if unix.Fstat(int(f.Fd()), &st) != nil {
		return logging.File{}
	}
	return logging.File{Dev: st.Dev, Ino: st.Ino}
}

// list returns names and descriptors; they stay the receiver's.
func (lf *logFiles) list() (names []string, fds []int) {
	if lf == nil {
		return nil, nil
	}
	for _, f := range lf.files {
		fds = append(fds, int(f.Fd()))
	}
	return lf.names, fds
}

// Close closes the files, and doesn't wait for a file system that has something to write then.
func (lf *logFiles) Close() {
	if lf == nil || len(lf.files) == 0 {
		return
	}
	go func(files []*os.File) {
		for _, f := range files {
			_ = f.Close()
		}
	}(lf.files)
	lf.files, lf.names, lf.ids = nil, nil, nil
}

// errTooLate says that nobody needs the files any more: the generation has gone, or its files are opened once more.
var errTooLate = errors.New("the log files are not needed any more")

// genFiles is what this master keeps for a generation.
type genFiles struct {
	logs *logFiles
	// reopening is the errand that opens them anew, reopenAgain who asked for that since it began.
	reopening   *lifecycle.Errand
	reopenAgain []func(ok bool)
	// For the record, once they are asked for: the essence of its configuration, and the kernel's number of what steers it by load.
	essence []byte
	load    uint32
}

// kept returns what is kept for a generation that is not gone.
func (co *coordinator) kept(generation uint64) *genFiles {
	k := co.gens[generation]
	if k == nil {
		k = new(genFiles)
		co.gens[generation] = k
	}
	return k
}

// logsOf returns the log files of a generation, nil if they were not opened yet.
func (co *coordinator) logsOf(generation uint64) *logFiles {
	if k := co.gens[generation]; k != nil {
		return k.logs
	}
	return nil
}

// forget closes what is kept for a generation that is gone.
func (co *coordinator) forget(generation uint64) {
	co.logsOf(generation).Close()
	delete(co.gens, generation)
}

// openLogsOf opens the log files of a generation.
func (co *coordinator) openLogsOf(g *lifecycle.Generation, then func(*logFiles, error)) {
	e := lifecycle.NewErrand(fmt.Sprintf("logs of generation %d", g.ID), "opening the log files", time.Now())
	k, conf := co.kept(g.ID), g.Conf
	k.reopening = e
	run(co, e, func() (*logFiles, error) { return openLogs(e, conf) }, func(lf *logFiles, err error) {
		if k.reopening != e || co.gens[g.ID] != k {
			lf.Close()
			then(nil, errTooLate)
			return
		}
		k.reopening = nil
		then(lf, err)
		if again := k.reopenAgain; len(again) > 0 {
			k.reopenAgain = nil
			co.reopenLogsOf(g, func(ok bool) {
				for _, done := range again {
					done(ok)
				}
			})
		}
	})
}

// reopenLogs opens all log files anew, here and in every worker.
// A log rotation asks for it by a signal, and is told so. A master that has just come to its workers does it unasked, and
// once more when its predecessor has ended: that one knew nothing of the files of the
// generation that was starting, and what it heard at its very end it told nobody.
func (co *coordinator) reopenLogs(asked bool) {
	gens := co.core.Generations()
	left, all := len(gens), true
	for i := range gens {
		co.reopenLogsOf(&gens[i], func(ok bool) {
			all = all && ok
			if left--; left == 0 && all && asked {
				co.log.Info().Msg("log files reopened")
			}
		})
	}
}

// reopenLogsOf does so for one generation. What is being opened already may be the files of before: it is done once
// more then. A file system that takes too long is not waited for, as another one may be mounted there by now.
func (co *coordinator) reopenLogsOf(g *lifecycle.Generation, done func(ok bool)) {
	k := co.kept(g.ID)
	if e := k.reopening; e != nil && time.Since(e.Began()) < lifecycle.Slow {
		k.reopenAgain = append(k.reopenAgain, done)
		return
	}
	co.openLogsOf(g, func(lf *logFiles, err error) {
		switch {
		case err == nil:
			co.replaceLogs(g, lf)
		case !errors.Is(err, errTooLate):
			co.log.Error().Err(err).Msg("can't reopen the logs; the old files are used on")
		}
		done(err == nil || errors.Is(err, errTooLate))
	})
}

// replaceLogs has a generation, and the master if it is the one that serves, write to other files.
func (co *coordinator) replaceLogs(g *lifecycle.Generation, lf *logFiles) {
	co.logsOf(g.ID).Close()
	co.kept(g.ID).logs = lf
	names, fds := lf.list()
	if len(fds) == 0 {
		return
	}
	if serving, _ := co.core.Serving(); g.ID == serving {
		co.useLog(g.Conf, lf)
	}
	for id := range co.procs {
		if id.Generation == g.ID {
			co.send(id, wire.KindLogs, wire.Logs{Files: names}, fds...)
		}
	}
}

// useLog has the master write to the log of the configuration in force.
func (co *coordinator) useLog(c *config.Config, lf *logFiles) {
	fd, file := lf.log()
	switch {
	case fd < 0:
		co.setLog(logging.Stderr(), c.Log)
	case co.out.Is(file):
		co.setLog(co.out, c.Log)
	case logging.Crowded():
		co.log.Error().Str("file", c.Log.File).Msg("can't go over to the new log file: several earlier ones still don't take what was to be written")
	default:
		dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
		if err != nil {
			co.log.Error().Err(err).Msg("can't go over to the new log file")
			return
		}
		co.setLog(logging.NewOutput(dup, file), c.Log)
	}
}

// log returns the master's log, -1 if that is standard error.
func (lf *logFiles) log() (int, logging.File) {
	if lf != nil {
		for i, name := range lf.names {
			if name == wire.FileLog {
				return int(lf.files[i].Fd()), lf.ids[i]
			}
		}
	}
	return -1, logging.File{}
}

// logStatus describes this master's log for `status`.
func (co *coordinator) logStatus() *control.Log {
	l := &control.Log{Dropped: logging.Dropped()}
	if at := co.out.Stalled(time.Now()); !at.IsZero() {
		l.Stalled = &at
	}
	return l
}
