// Command slow makes slowhttptest hold thousands of connections of reuseportd and of nginx, in each
// of its four modes, and measures what a polite client gets meanwhile:
//
//	go run ./bench/slow
//
// Each mode meets a fresh server. Two ask beside it: slowhttptest's own probe, once a second, and four
// clients of ours, on kept and on fresh connections in turn. The service was available throughout if
// neither missed an answer. As root it makes a network of its own for that, see wire.go. What isn't installed is installed, if apt-get and root are there. It prints
// Markdown, takes less than five minutes and leaves nothing behind but those packages.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"time"

	"reuseportd/internal/rig"
)

// options are what the flags say.
type options struct {
	server      string
	only        string
	connections int
	duration    time.Duration
}

// slowPackage is the tool.
var slowPackage = rig.Package{Name: "slowhttptest", Brings: "slowhttptest"}

// mostConnections is what nginx is configured for in each worker, so that neither server is at a limit.
const mostConnections = 10_000

// overhead bounds what one mode takes beside its duration: starting, connecting, the last probes, stopping.
const overhead = 40 * time.Second

func main() {
	var o options
	flag.StringVar(&o.server, "server", "", "reuseportd's `binary`; by default it is built")
	flag.StringVar(&o.only, "only", "", "do only the modes whose name contains this `text`")
	flag.IntVar(&o.connections, "connections", 4000, "`number` of connections that are held, 1 to 10000")
	flag.DurationVar(&o.duration, "duration", 30*time.Second, "of each mode, 3s to 10m")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), rig.Interrupts()...)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "prove-slow:", err)
		os.Exit(1)
	}
}

func (o options) check() error {
	switch {
	case flag.NArg() > 0:
		return fmt.Errorf("unexpected argument %q", flag.Arg(0))
	case o.connections < 1 || o.connections > mostConnections:
		return fmt.Errorf("-connections %d: want 1 to %d", o.connections, mostConnections)
	case o.duration < 3*time.Second || o.duration > 10*time.Minute:
		return fmt.Errorf("-duration %v: want 3s to 10m", o.duration)
	}
	return nil
}

func run(ctx context.Context, o options) error {
	if err := o.check(); err != nil {
		return err
	}
	rig.Install(ctx, "prove-slow", rig.NginxPackage, slowPackage)
	if _, err := exec.LookPath(slowPackage.Brings); err != nil {
		return err
	}
	if entered, err := enter(ctx); entered || err != nil {
		return err
	}
	if limit := rig.RaiseLimit(); limit < uint64(2*o.connections+1000) {
		return fmt.Errorf("%d connections need a descriptor limit of %d, and it is %d: raise it, ulimit -n, or take fewer connections",
			o.connections, 2*o.connections+1000, limit)
	}
	if err := rig.Adopt(); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "rpslow")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		return err
	}
	all, err := contenders(ctx, dir, o.server)
	if err != nil {
		return err
	}
	printHead(os.Stdout, all, o)
	missed := false
	for _, m := range modes {
		if !strings.Contains(m.name, o.only) {
			continue
		}
		for _, c := range all {
			fmt.Fprintf(os.Stderr, "prove-slow: %s: %s\n", c.Name, m.name)
			r, err := meet(ctx, c, m, o, dir)
			if err != nil {
				return fmt.Errorf("%s: %s: %w", c.Name, m.name, err)
			}
			printRow(os.Stdout, m, c, r)
			missed = missed || c.ours && !r.available()
		}
	}
	if missed {
		return errors.New("reuseportd was not available throughout")
	}
	return nil
}

// result is what one mode did to one server.
type result struct {
	held    held
	probed  probed
	starved int // connections that the kernel has reset for want of memory
}

// available reports whether no client has missed an answer.
func (r result) available() bool {
	return r.held.away == 0 && r.probed.failed == 0 && r.probed.asked > 0
}

// meet runs one mode against a fresh server.
func meet(ctx context.Context, c *contender, m mode, o options, dir string) (r result, err error) {
	ctx, cancel := context.WithTimeout(ctx, o.duration+overhead)
	defer cancel()
	if err := c.Start(ctx); err != nil {
		return r, err
	}
	defer c.Stop()
	before, err := starved()
	if err != nil {
		return r, err
	}
	asked, stop := context.WithCancel(ctx)
	answers := make(chan probed, 1)
	go func() { answers <- probe(asked, c.address, m.probe) }()
	r.held, err = m.attack(ctx, c.address, o, dir)
	stop()
	r.probed = <-answers
	after, starvedErr := starved()
	r.starved = after - before
	return r, errors.Join(err, starvedErr)
}
