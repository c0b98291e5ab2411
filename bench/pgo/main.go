// Command pgo writes the profile that the server is optimized with, cmd/reuseportd/default.pgo:
//
//	go run ./bench/pgo
//
// It builds the server without one, has it serve every kind of load that matters,
// takes a CPU profile of each worker meanwhile, and merges them: `go build` then inlines
// what they show to be hot. A load counts by the CPU time that it takes in its window. It
// must be run again when the hot code has changed much; a profile that is out of date does
// no harm and helps less. It takes about two minutes and needs wrk.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/google/pprof/profile"

	"reuseportd/internal/rig"
)

type options struct {
	duration    time.Duration
	connections int
	output      string
}

func main() {
	var o options
	flag.DurationVar(&o.duration, "duration", 10*time.Second, "length of the profile of each load, in whole seconds")
	flag.IntVar(&o.connections, "connections", 64, "connections of each load")
	flag.StringVar(&o.output, "o", "cmd/reuseportd/default.pgo", "`file` to write")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "pgo:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) error {
	if o.duration < time.Second || o.connections < 1 {
		return fmt.Errorf("-duration %v, -connections %d: a second and a connection are the least", o.duration, o.connections)
	}
	if _, err := exec.LookPath("wrk"); err != nil {
		return fmt.Errorf("the load generator wrk is not here: apt-get install wrk")
	}
	rig.RaiseLimit()
	if err := rig.Adopt(); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "rppgo")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		return err
	}
	b, err := newBench(ctx, dir)
	if err != nil {
		return err
	}
	defer b.stop()
	if err := b.start(ctx); err != nil {
		return err
	}
	var all []*profile.Profile
	for _, l := range loads {
		ps, err := b.measure(ctx, l, o)
		if err != nil {
			return fmt.Errorf("%s: %w", l.name, err)
		}
		fmt.Printf("%-10s %6.2f s of CPU time sampled\n", l.name, cpu(ps).Seconds())
		all = append(all, ps...)
	}
	size, err := write(o.output, all)
	if err == nil {
		fmt.Printf("%s: %d KiB\n", o.output, (size+1023)/1024)
	}
	return err
}
