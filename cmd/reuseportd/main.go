// Command reuseportd is a server whose connections outlive its processes.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/alecthomas/kong"

	"reuseportd/internal/config"
	"reuseportd/internal/control"
	"reuseportd/internal/upgrade"
	"reuseportd/internal/worker"
)

var version = "dev"

type cli struct {
	RuntimeDir string `help:"Where lock, PID file and control socket are." default:"" placeholder:"DIR"`

	Run     runCmd   `cmd:"" default:"withargs" help:"Serve in the foreground."`
	Check   checkCmd `cmd:"" help:"Validate a configuration; never binds a socket."`
	Status  askCmd   `cmd:"" help:"Show what serves and what drains."`
	Reload  askCmd   `cmd:"" help:"Load the configuration again and wait for the outcome."`
	Upgrade askCmd   `cmd:"" help:"Replace the running binary and wait for the outcome."`
	Stop    askCmd   `cmd:"" help:"Stop gracefully."`
	Version struct{} `cmd:"" help:"Print the version."`
}

type runCmd struct {
	Config string `short:"c" help:"Configuration file; without it, the built-in default." placeholder:"FILE"`
}
type checkCmd struct {
	Config string `short:"c" required:"" help:"Configuration file." placeholder:"FILE"`
}
type askCmd struct {
	JSON bool `help:"Print JSON."`
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == "worker" {
		os.Exit(worker.Main())
	}
	os.Exit(run())
}

func run() int {
	var c cli
	k := kong.Parse(&c, kong.Name("reuseportd"))
	dir := c.RuntimeDir
	if dir == "" {
		if dir = os.Getenv("RUNTIME_DIRECTORY"); dir == "" {
			dir = "/run/reuseportd"
		}
	}
	switch cmd := strings.Fields(k.Command())[0]; cmd {
	case "run":
		return serve(dir, c.Run.Config)
	case "check":
		if _, err := config.Load(c.Check.Config); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return 0
	case "version":
		fmt.Println(version)
		return 0
	default:
		return ask(dir, cmd)
	}
}

func serve(dir, conf string) int {
	if strings.Contains(os.Args[0], "/") {
		os.Args[0], _ = filepath.Abs(os.Args[0])
	} else if p, err := exec.LookPath(os.Args[0]); err == nil {
		os.Args[0], _ = filepath.Abs(p)
	}
	code, err := upgrade.Run(upgrade.Options{ConfigPath: conf, RuntimeDir: dir, Version: version})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	return code
}

func ask(dir, cmd string) int {
	cl, err := control.Dial(dir)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		if errors.Is(err, control.ErrNoMaster) {
			return 3
		}
		return 1
	}
	r, err := cl.Do(context.Background(), control.Request{Command: cmd, Cause: "command"})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	var v any = r.Status
	if r.Receipt != nil {
		v = r.Receipt
	}
	b, _ := json.MarshalIndent(v, "", "  ")
	fmt.Println(string(b))
	if r.Receipt != nil && !r.Receipt.OK {
		fmt.Fprintln(os.Stderr, r.Receipt.Error)
		return 1
	}
	return 0
}
