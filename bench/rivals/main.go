// Command rivals puts nginx, HAProxy and reuseportd through the events of a day of
// operation, and counts what clients notice:
//
//	go run ./bench/rivals
//
// Each event meets a fresh server, with connections of its own. A request is
// lost when it was sent on a connection that the server then closed or reset
// without a whole answer. A connection that the server ended by an answer with
// `Connection: close` cost no request; it is counted as closed. What isn't
// installed is installed, if apt-get and root are there. It prints Markdown,
// takes about two minutes and leaves nothing behind but those packages.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"time"

	"reuseportd/internal/rig"
)

// timeLimit is of everything but the installation.
const timeLimit = 3 * time.Minute

func main() {
	server := flag.String("server", "", "reuseportd's `binary`; by default it is built")
	only := flag.String("only", "", "do only the events whose name contains this `text`")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), rig.Interrupts()...)
	defer stop()
	if err := run(ctx, *server, *only); err != nil {
		fmt.Fprintln(os.Stderr, "bench-rivals:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, server, only string) error {
	rig.Install(ctx, "bench-rivals", rig.NginxPackage, rig.NginxStreamPackage, rig.HAProxyPackage)
	ctx, cancel := context.WithTimeout(ctx, timeLimit)
	defer cancel()
	rig.RaiseLimit()
	if err := rig.Adopt(); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "rprivals")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		return err
	}
	echo, err := startEcho()
	if err != nil {
		return err
	}
	defer echo.Close()
	all, err := contenders(ctx, dir, server, echo.Addr().String())
	if err != nil {
		return err
	}
	t := newTable(all)
	var failed error // the last event that could not be measured
	for _, e := range events {
		if !strings.Contains(e.name, only) {
			continue
		}
		cells := make([]string, len(all))
		for i, c := range all {
			fmt.Fprintf(os.Stderr, "bench-rivals: %s: %s\n", c.Name, e.name)
			cells[i], err = meet(ctx, c, e)
			switch {
			case ctx.Err() != nil:
				return fmt.Errorf("%s: %s: %w", c.Name, e.name, ctx.Err())
			case err != nil:
				failed = fmt.Errorf("%s: %s: %w", c.Name, e.name, err)
				cells[i] = "failed: " + strings.ReplaceAll(err.Error(), "\n", " ")
			}
		}
		t.add(e.name, cells)
	}
	t.print(os.Stdout)
	return failed
}

// meet runs one event on a fresh server.
func meet(ctx context.Context, c *contender, e event) (string, error) {
	if err := c.configure(startWorkers); err != nil {
		return "", err
	}
	if err := c.Start(ctx); err != nil {
		return "", err
	}
	defer c.Stop()
	// A master that accepts connections need not have all workers yet.
	if err := c.await(ctx, func() bool { return len(c.workers()) == c.processes }); err != nil {
		return "", fmt.Errorf("start its workers: %w", err)
	}
	return e.happen(ctx, c)
}
