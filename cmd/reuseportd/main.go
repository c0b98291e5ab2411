// Command reuseportd is a server whose connections outlive its processes.
//
// It owns flags, wiring and the texts that a person reads; each subcommand has a file.
// What a subcommand does must be in the packages below internal/.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/alecthomas/kong"

	"reuseportd/internal/worker"
)

// Exit statuses.
const (
	exitOK       = 0
	exitFailed   = 1 // refused, or tried without success
	exitUsage    = 2
	exitNoMaster = 3
)

const description = `A server whose connections outlive its processes.

Exit status: 0 if done, 1 if refused or tried in vain, 2 for wrong usage, 3 if no master runs.`

// cli is the command line.
type cli struct {
	RuntimeDir       filePath      `placeholder:"DIR" help:"Directory of lock, PID file and control socket (default: $$RUNTIME_DIRECTORY, else /run/reuseportd for root, else $$XDG_RUNTIME_DIR/reuseportd, else /tmp/reuseportd-UID)."`
	UnsafeRuntimeDir bool          `env:"REUSEPORTD_UNSAFE_RUNTIME_DIR" help:"Use the runtime directory though others own it, or can write to it or above it: for a container's volume that nobody else can reach."`
	Timeout          time.Duration `placeholder:"DURATION" help:"How long a command waits for the running master, as in 30s (default: status 5s, reload, upgrade and stop for as long as the master is not stopped)."`

	Run     runCmd     `cmd:"" default:"withargs" help:"Serve in the foreground (the default)."`
	Check   checkCmd   `cmd:"" help:"Validate a configuration; never binds a socket."`
	Status  statusCmd  `cmd:"" help:"Show what serves, what drains and what was lost."`
	Reload  reloadCmd  `cmd:"" help:"Start a new generation from the configuration as it is now, and wait for the outcome."`
	Upgrade upgradeCmd `cmd:"" help:"Make the binary at the running master's path the next master, and wait for the outcome."`
	Stop    stopCmd    `cmd:"" help:"Accept no more, finish what is open, and end."`
	Bench   benchCmd   `cmd:"" help:"Measure on this machine what this server can do."`
	Version versionCmd `cmd:"" help:"Print the version."`

	out, err io.Writer
}

// filePath is a path from the command line; "": none. An empty argument is refused: most
// likely it is an unset variable of a script, and the default isn't meant.
type filePath string

// UnmarshalText implements encoding.TextUnmarshaler.
func (p *filePath) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		return errors.New("the path is empty")
	}
	*p = filePath(text)
	return nil
}

func (p *filePath) makeAbsolute() error {
	abs, err := filepath.Abs(string(*p))
	*p = filePath(abs)
	return err
}

func init() {
	if isWorker() {
		worker.Name()
	}
}

func isWorker() bool { return len(os.Args) > 1 && os.Args[1] == "worker" }

func main() {
	if isWorker() {
		os.Exit(worker.Main(os.Args[2:])) // before anything that costs time
	}
	os.Exit(execute(os.Args[1:], os.Stdout, os.Stderr))
}

// execute runs one command line and returns the exit status.
func execute(args []string, stdout, stderr io.Writer) int {
	c := cli{out: stdout, err: stderr}
	exited := -1
	parser, err := kong.New(&c,
		kong.Name("reuseportd"), kong.Description(description), kong.UsageOnError(),
		kong.Writers(stdout, stderr), kong.Exit(func(status int) { exited = status }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}))
	if err != nil {
		panic(err) // the declarations above are wrong
	}
	k, err := parser.Parse(args)
	switch {
	case exited >= 0: // --help
		return exited
	case err != nil:
		fmt.Fprintf(stderr, "reuseportd: %v\nTry `reuseportd --help`.\n", err)
		return exitUsage
	case c.Timeout < 0:
		fmt.Fprintf(stderr, "reuseportd: --timeout %s: it can't be negative; leave it out for the default\n", c.Timeout)
		return exitUsage
	}
	if c.RuntimeDir == "" {
		dir, err := runtimeDir()
		if err != nil {
			fmt.Fprintf(stderr, "reuseportd: %v\n", err)
			return exitFailed
		}
		c.RuntimeDir = filePath(dir)
	} else if err := c.RuntimeDir.makeAbsolute(); err != nil {
		fmt.Fprintf(stderr, "reuseportd: --runtime-dir %s: %v\n", c.RuntimeDir, err)
		return exitUsage
	}
	return status(k.Run(&c), stderr)
}

// statusError is an exit status without a message.
type statusError int

func (e statusError) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// status prints an error, if there is one, and returns the exit status.
func status(err error, stderr io.Writer) int {
	var s statusError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &s):
		return int(s)
	}
	fmt.Fprintf(stderr, "reuseportd: %v\n", err)
	if isNoMaster(err) {
		return exitNoMaster
	}
	return exitFailed
}
