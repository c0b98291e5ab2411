package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"reuseportd/internal/control"
	"reuseportd/internal/initd"
	"reuseportd/internal/upgrade"
)

// runCmd is `reuseportd run`.
type runCmd struct {
	Config string `short:"c" placeholder:"FILE" help:"Configuration file; without it, the built-in configuration."`
	Init   bool   `help:"Start the master as a child and wait for its ends, as is done when this is PID 1."`
}

// underInit is set in the environment of the master that initd starts.
const underInit = "REUSEPORTD_UNDER_INIT"

// Run serves until the end.
func (r *runCmd) Run(c *cli) error {
	if err := settleArgs(); err != nil {
		return err
	}
	if c.RuntimeDir == sharedDir() {
		if err := makePrivate(c.RuntimeDir, os.Geteuid()); err != nil {
			return err
		}
	}
	if (os.Getpid() == 1 || r.Init) && os.Getenv(underInit) == "" {
		_ = os.Setenv(underInit, "1")
		return exitWith(initd.Run(initd.Options{
			Path: os.Args[0], Args: os.Args[1:],
			PIDFile: filepath.Join(c.RuntimeDir, upgrade.PIDFile), Stderr: c.err,
		}))
	}
	told := os.Getenv("TABLEFLIP_HAS_PARENT_7DIU3") != "" // a next master has nothing to introduce
	status, err := upgrade.Run(upgrade.Options{
		ConfigPath: r.Config, RuntimeDir: c.RuntimeDir, Version: versionString(),
		OnServing: func(st control.Status) {
			if !told {
				told = true
				fmt.Fprint(c.err, banner(&st, c.RuntimeDir))
			}
		},
	})
	if err != nil {
		fmt.Fprintf(c.err, "reuseportd: %v\n", err)
	}
	return exitWith(status)
}

func exitWith(status int) error {
	if status == 0 {
		return nil
	}
	return statusError(status)
}

// settleArgs makes os.Args[0] the absolute path of the binary. An upgrade runs
// what stands there then: a symbolic link is kept, so that what it points to can
// be exchanged. Only a name that leads to no file gives way to the link's target.
func settleArgs() error {
	path, err := exec.LookPath(os.Args[0])
	if err == nil {
		path, err = filepath.Abs(path)
	} else {
		path, err = os.Executable() // whoever started it chose another name
	}
	if err != nil {
		return fmt.Errorf("find the path of this binary, for upgrades: %w", err)
	}
	os.Args[0] = path
	return nil
}

// banner says in plain words what serves and how to go on.
func banner(st *control.Status, dir string) string {
	var b strings.Builder
	for _, l := range st.Listeners {
		address := l.Address
		switch {
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
		flag = " --runtime-dir " + dir
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
