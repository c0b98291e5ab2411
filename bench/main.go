// Command bench measures what the server costs beside others:
//
//	go run ./bench
//
// A contender is a server as processes, with doors for the kinds of load that it can take. A load meets all who have
// its door, round after round, and nobody is always first; before the rounds that count there is one that doesn't.
// CPU time is what /proc says of all of a server's processes, so that the load and the servers behind a proxy don't
// count. All servers have two workers, or threads, and are configured as their own manuals advise. What isn't installed
// is installed, if apt-get and root are there.
//
// It prints Markdown, first the goals and whether they hold, and writes every round's values to a file. With -only, loads
// are measured anew in that file; -from prints one; -beside compares builds of the server with each other; -pgo makes the profile that it is built with; -update puts the text into docs/PERFORMANCE.md.
// It leaves nothing behind but that and those packages.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"time"

	"reuseportd/internal/rig"
)

type options struct {
	rounds        int
	duration      time.Duration
	only, server  string
	beside, pgo   string
	output, from  string
	update, uring bool
}

func main() {
	if len(os.Args) == 4 && os.Args[1] == relayRole {
		fmt.Fprintln(os.Stderr, relay(os.Args[2], os.Args[3]))
		os.Exit(1)
	}
	var o options
	flag.IntVar(&o.rounds, "rounds", 5, "rounds of each load")
	flag.DurationVar(&o.duration, "duration", 2*time.Second, "length of a round, in whole seconds")
	flag.StringVar(&o.only, "only", "", "measure only the loads of this `list`: "+strings.Join(names(), ","))
	flag.StringVar(&o.server, "server", "", "reuseportd's `binary`; by default it is built")
	flag.StringVar(&o.beside, "beside", "", "a `list` of further binaries of reuseportd, to be compared with it")
	flag.StringVar(&o.output, "o", "bench.json", "write all values to this `file`; with -only, beside what it has of other loads")
	flag.StringVar(&o.from, "from", "", "measure nothing and print this `file`")
	flag.StringVar(&o.pgo, "pgo", "", "measure nothing and write the profile that the server is optimized with to this `file`")
	flag.BoolVar(&o.update, "update", false, "put the text between its marks in docs/PERFORMANCE.md")
	flag.BoolVar(&o.uring, "uring", false, "measure the floor with io_uring, too")
	flag.Parse()
	if err := o.check(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), rig.Interrupts()...)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		stop()
		os.Exit(1)
	}
}

// check returns an error for options that make no sense.
func (o options) check() error {
	if flag.NArg() > 0 {
		return fmt.Errorf("%q is no flag, and what comes after it would not be read", flag.Arg(0))
	}
	if o.rounds < 1 || o.duration < time.Second || o.duration%time.Second != 0 {
		return errors.New("-rounds is at least 1, and -duration whole seconds")
	}
	if o.pgo != "" && (o.only != "" || o.server != "" || o.beside != "" || o.from != "" || o.update || o.uring) {
		return errors.New("-pgo has loads and a server of its own, and no table: only -duration goes with it")
	}
	return nil
}

func run(ctx context.Context, o options) error {
	if o.pgo != "" {
		return optimize(ctx, o)
	}
	var r *report
	var err error
	if o.from != "" {
		if r, err = readReport(o.from); err == nil && r == nil {
			err = fmt.Errorf("%s: %w", o.from, os.ErrNotExist)
		}
	} else {
		r, err = measure(ctx, o)
	}
	if err != nil {
		return err
	}
	fmt.Print(r.all())
	if o.update {
		return r.update()
	}
	return nil
}
