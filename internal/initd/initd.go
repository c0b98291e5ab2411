// Package initd is the small parent of the master where the master would otherwise be PID
// 1, as in a container.
//
// It owns the waiting for processes: it starts the master, passes signals on to the
// current master, reaps orphans, and ends when no master is left. It is never upgraded,
// so it must stay so small that it needs no upgrade. It must never read configuration,
// open a socket, or keep a child's descriptor.
package initd

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"reuseportd/internal/parent"
)

// Options say what to start.
type Options struct {
	// Path is the master's binary, Args its arguments without the zeroth.
	Path string
	Args []string
	// PIDFile is where each master writes its PID once it serves.
	PIDFile string
	// Stderr receives initd's own messages.
	Stderr io.Writer
}

// forwarded are the signals that mean something to a master.
var forwarded = []os.Signal{
	unix.SIGHUP, unix.SIGUSR1, unix.SIGUSR2, unix.SIGTERM, unix.SIGINT, unix.SIGQUIT,
}

const (
	maxRestarts   = 3
	restartWindow = time.Minute
)

type initd struct {
	opts   Options
	first  pidFile // as it was before the first master, so not written by ours
	master int
	// asked is set when a signal has asked the master to end: a master that ends then has
	// not crashed.
	asked    bool
	restarts []time.Time
}

// Run starts the master. When no master is left it returns the exit status of the last
// one, or 128 plus the signal's number if a signal ended it. Masters that follow by
// upgrades become its children as their own parents go. A master that crashes after it
// has served is started again, up to maxRestarts times in restartWindow: its workers go
// on serving meanwhile, and the end of PID 1 would end them.
func Run(opts Options) int {
	signals := make(chan os.Signal, 64)
	signal.Notify(signals, append(forwarded, unix.SIGCHLD)...)
	defer signal.Stop(signals)
	signal.Notify(make(chan os.Signal, 1), unix.SIGPIPE) // so that nothing ends when the reader of the log does
	if os.Getpid() != 1 {
		// PID 1 adopts orphans anyway; another process has to ask for them.
		if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
			fmt.Fprintf(opts.Stderr, "reuseportd: init: become the parent of orphans: %v\n", err)
			return 1
		}
	}
	_ = os.Setenv(parent.InitEnv, strconv.Itoa(os.Getpid()))
	d := &initd{opts: opts, first: readPIDFile(opts.PIDFile)}
	if err := d.start(); err != nil {
		fmt.Fprintf(opts.Stderr, "reuseportd: init: %v\n", err)
		return 1
	}
	for sig := range signals {
		if sig != unix.SIGCHLD {
			d.forward(sig.(syscall.Signal))
			continue
		}
		if status, done := d.reap(); done {
			if status == 0 {
				awaitChildren(signals)
			}
			return status
		}
	}
	panic("unreachable: signals is never closed")
}

// awaitChildren waits for the workers that are handing over to a master in another
// container, since the end of PID 1 would end them. A signal ends the wait.
func awaitChildren(signals <-chan os.Signal) {
	for {
		switch pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil); {
		case pid > 0 || errors.Is(err, unix.EINTR):
		case err != nil:
			return // there are none
		default:
			if <-signals != unix.SIGCHLD {
				return
			}
		}
	}
}

// start runs a master. It is in a process group of its own: a terminal's ^C must reach it
// only once, through forward, since a second one has another meaning.
func (d *initd) start() error {
	pid, err := syscall.ForkExec(d.opts.Path, append([]string{d.opts.Path}, d.opts.Args...), &syscall.ProcAttr{
		Env:   os.Environ(),
		Files: []uintptr{0, 1, 2},
		Sys:   &syscall.SysProcAttr{Setpgid: true},
	})
	if err != nil {
		return fmt.Errorf("start the master %s: %w", d.opts.Path, err)
	}
	d.master = pid
	return nil
}

func (d *initd) forward(sig syscall.Signal) {
	if sig == unix.SIGTERM || sig == unix.SIGINT || sig == unix.SIGQUIT {
		d.asked = true
	}
	d.follow()
	if err := unix.Kill(d.master, sig); err != nil && !errors.Is(err, unix.ESRCH) {
		fmt.Fprintf(d.opts.Stderr, "reuseportd: init: send %v to the master %d: %v\n", sig, d.master, err)
	}
}

// follow looks for a new master. An upgrade's master writes the file before the old one
// ends, so at each end the file already names the successor, if there is one.
func (d *initd) follow() {
	f := readPIDFile(d.opts.PIDFile)
	if f.pid > 0 && !f.same(d.first) && alive(f.pid) {
		d.master = f.pid
	}
}

// reap reaps every dead child, and reports whether the last master was among them.
func (d *initd) reap() (status int, done bool) {
	for {
		var ws unix.WaitStatus
		pid, err := unix.Wait4(-1, &ws, unix.WNOHANG, nil)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil || pid == 0:
			return 0, false
		case pid != d.master:
			continue
		}
		// A master that took over from outside is waited for by its own parent. One from here may be a grandchild still: where
		// upgrades follow closely, the one that has started it hasn't ended yet.
		if d.follow(); d.master != pid && descends(d.master) {
			continue
		}
		if !d.crashed(ws) || !d.restart(ws) {
			return exitStatus(ws), true
		}
	}
}

// crashed reports whether a master ended unexpectedly: by a signal that wasn't sent from
// here, or with the exit status of a Go panic.
func (d *initd) crashed(ws unix.WaitStatus) bool {
	served := readPIDFile(d.opts.PIDFile)
	if d.asked || served.pid != d.master || served.same(d.first) {
		return false
	}
	return ws.Signaled() || ws.ExitStatus() == 2
}

func (d *initd) restart(ws unix.WaitStatus) bool {
	now := time.Now()
	for len(d.restarts) > 0 && now.Sub(d.restarts[0]) > restartWindow {
		d.restarts = d.restarts[1:]
	}
	if len(d.restarts) == maxRestarts {
		fmt.Fprintf(d.opts.Stderr, "reuseportd: init: the master %d crashed (%s), the %dth in %v: giving up\n",
			d.master, describe(ws), maxRestarts+1, restartWindow)
		return false
	}
	d.restarts = append(d.restarts, now)
	fmt.Fprintf(d.opts.Stderr, "reuseportd: init: the master %d crashed (%s): starting another\n", d.master, describe(ws))
	if err := d.start(); err != nil {
		fmt.Fprintf(d.opts.Stderr, "reuseportd: init: %v\n", err)
		return false
	}
	return true
}

func exitStatus(ws unix.WaitStatus) int {
	if ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return ws.ExitStatus()
}

func describe(ws unix.WaitStatus) string {
	if ws.Signaled() {
		return ws.Signal().String()
	}
	return fmt.Sprintf("exit status %d", ws.ExitStatus())
}
