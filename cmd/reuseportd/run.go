package main

import (
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"reuseportd/internal/control"
	"reuseportd/internal/initd"
	"reuseportd/internal/logging"
	"reuseportd/internal/sdnotify"
	"reuseportd/internal/upgrade"
)

// runCmd is `reuseportd run`.
type runCmd struct {
	Config   filePath `short:"c" placeholder:"FILE" help:"Configuration file; without it, the built-in configuration."`
	Takeover bool     `help:"Take over from the master that runs with the same runtime directory, if one does, without a gap: for service managers and containers."`
	Pprof    bool     `help:"Give each worker a Unix socket in the runtime directory, pprof-GENERATION-SLOT.sock, at which it gives profiles (Go's /debug/pprof)."`
	Force    bool     `help:"End processes that listen in the place of a killed master's workers and are in no master's record, for which the start is refused otherwise. What they have open is lost."`
	Init     bool     `help:"Start the master as a child and wait for its ends, as is done when this is PID 1."`
}

// Run serves until the end.
func (r *runCmd) Run(c *cli) error {
	if self, err := os.Readlink("/proc/self"); err != nil || self != strconv.Itoa(os.Getpid()) {
		return errors.New("/proc is not mounted, or is that of another PID namespace: without it no worker can be started, nor seen; mount -t proc proc /proc")
	}
	if err := r.settle(c); err != nil {
		return err
	}
	// From here on nothing may wait for the reader of standard error.
	if c.err == os.Stderr {
		c.err = logging.Stderr()
		defer logging.Stderr().Flush(time.Second)
	}
	if err := r.leaveDirectory(); err != nil {
		fmt.Fprintf(c.err, "reuseportd: stay in the working directory, which upgrades need then: %v\n", err)
	}
	// Descriptors with which this process was started, besides its standard streams, must not
	// reach its children: a shell's redirections, a service manager's descriptors.
	_ = unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC)
	sdnotify.ClaimWatchdog()
	dir := string(c.RuntimeDir)
	if os.Getpid() == 1 || r.Init {
		return exitWith(initd.Run(initd.Options{
			Path: os.Args[0], Args: r.once(os.Args[1:]),
			PIDFile: filepath.Join(dir, upgrade.PIDFile), Stderr: c.err,
		}))
	}
	status, err := upgrade.Run(upgrade.Options{
		ConfigPath: string(r.Config), RuntimeDir: dir, UnsafeRuntimeDir: c.UnsafeRuntimeDir, Version: versionString(), Takeover: r.Takeover,
		Pprof: r.Pprof, Force: r.Force,
		OnServing: func(st control.Status) {
			// Only the first start of a service prints a banner.
			if st.LastChange != nil && st.LastChange.Action == "start" {
				fmt.Fprint(c.err, banner(&st, dir))
			}
		},
	})
	if err != nil {
		fmt.Fprintf(c.err, "reuseportd: %v\n", err)
	}
	return exitWith(status)
}

// once adds the flags that settle has left out because they are not for masters that upgrades
// start.
func (r *runCmd) once(args []string) []string {
	if r.Takeover {
		args = append(args, "--takeover")
	}
	if r.Force {
		args = append(args, "--force")
	}
	return args
}

// leaveDirectory makes / the working directory, since the one in which the process was started may be
// removed, as by the next deployment. tableflip remembers the working directory at its start for all
// upgrades, so the process executes itself again. All paths are absolute by then.
func (r *runCmd) leaveDirectory() error {
	if wd, err := os.Readlink("/proc/self/cwd"); err != nil || wd == "/" {
		return err
	}
	image, err := os.Executable()
	if err != nil {
		return err
	}
	if err := os.Chdir("/"); err != nil {
		return err
	}
	args := r.once(os.Args[:len(os.Args):len(os.Args)])
	if r.Init {
		args = append(args, "--init")
	}
	_ = os.Setenv("PWD", "/")
	_ = os.Setenv(upgrade.BinaryEnv, os.Args[0])
	defer os.Unsetenv(upgrade.BinaryEnv)
	return fmt.Errorf("execute %s: %w", image, syscall.Exec(image, args, os.Environ()))
}

func exitWith(status int) error {
	if status == 0 {
		return nil
	}
	return statusError(status)
}

// settle makes every path absolute, and makes os.Args the command line of later masters:
// upgrades and initd run it. The working directory may be another one by then, if it was
// reached by a symbolic link.
func (r *runCmd) settle(c *cli) error {
	// A master that was started from an open file gets the path by the environment; there
	// may be no file at it any more.
	binary, err := os.Getenv(upgrade.BinaryEnv), error(nil)
	_ = os.Unsetenv(upgrade.BinaryEnv)
	if binary == "" {
		binary, err = binaryPath(os.Args[0])
	}
	if err != nil {
		return fmt.Errorf("find the path of this binary, for upgrades: %w", err)
	}
	if err := c.RuntimeDir.makeAbsolute(); err != nil {
		return fmt.Errorf("find the runtime directory: %w", err)
	}
	args := []string{binary, "run", "--runtime-dir=" + string(c.RuntimeDir)}
	if r.Config != "" {
		if err := r.Config.makeAbsolute(); err != nil {
			return fmt.Errorf("find the configuration: %w", err)
		}
		args = append(args, "--config="+string(r.Config))
	}
	if r.Pprof {
		args = append(args, "--pprof")
	}
	if c.UnsafeRuntimeDir {
		args = append(args, "--unsafe-runtime-dir")
	}
	os.Args = args
	return nil
}

// binaryPath returns the absolute path of the binary that was started as argv0. It keeps
// a symbolic link, so that its target can be exchanged. Only if the name leads to no file
// does it return the file that is running.
func binaryPath(argv0 string) (string, error) {
	path, err := exec.LookPath(argv0)
	if err != nil {
		return os.Executable() // the caller of exec chose another name
	}
	return filepath.Abs(path)
}

// banner says in plain words what is being served, and what to do next.
func banner(st *control.Status, dir string) string {
	var b strings.Builder
	for _, l := range st.Listeners {
		address := l.Address
		switch {
		case l.Service == "http" && l.Network != "unix" && l.TLS:
			address = "https://" + address + "/"
		case l.Service == "http" && l.Network != "unix":
			address = "http://" + address + "/"
		case l.Network == "unix":
			address = "unix:" + address
		}
		fmt.Fprintf(&b, "reuseportd serves %s on %s\n", l.Service, address)
	}
	workers, loops := 0, 0
	for _, g := range st.Groups {
		if g.State == "serving" {
			for _, w := range g.Workers {
				workers++
				loops += w.Slots
			}
		}
	}
	conf := "the built-in configuration"
	if st.Config.Path != "" {
		conf = st.Config.Path
	}
	flag := ""
	if d, err := runtimeDir(); err != nil || d != dir {
		flag = " --runtime-dir " + shellWord(dir)
	}
	if st.RuntimeDir != nil && st.RuntimeDir.Unsafe {
		flag += " --unsafe-runtime-dir" // commands make the same check
	}
	fmt.Fprintf(&b, "with %s, %s in all, from %s; this master is PID %d\n",
		plural(workers, "worker process", "worker processes"), plural(loops, "event loop", "event loops"), conf, st.PID)
	fmt.Fprintf(&b, "  status:   reuseportd status%s\n", flag)
	fmt.Fprintf(&b, "  reload:   reuseportd reload%s    (or kill -HUP %d)\n", flag, st.PID)
	fmt.Fprintf(&b, "  upgrade:  reuseportd upgrade%s   (or kill -USR2 %d)\n", flag, st.PID)
	fmt.Fprintf(&b, "  stop:     reuseportd stop%s      (or kill -TERM %d, or Ctrl-C)\n", flag, st.PID)
	return b.String()
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// shellWord quotes s if a shell would make anything else of it.
func shellWord(s string) string {
	special := func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("/._-+:@%,=", r)
	}
	if s != "" && !strings.ContainsFunc(s, special) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
