// Command bench measures what the server costs, side by side with nginx:
//
//	go run ./bench
//
// CPU time of one request on a kept connection and on a fresh one, private
// memory of one idle kept connection, and the time of a reload. Server CPU
// time is what /proc says of all the server's processes, so the load
// generator's share of the machine doesn't count; rounds are interleaved, so
// that a change of the machine meets both; medians are printed with the lowest
// and the highest round. It takes about two minutes and leaves nothing behind.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"

	"reuseportd/internal/rig"
)

type options struct {
	rounds      int
	duration    time.Duration
	connections int
	idle        int
	reloads     int
	server      string
}

func main() {
	var o options
	flag.IntVar(&o.rounds, "rounds", 7, "rounds of each load")
	flag.DurationVar(&o.duration, "duration", 3*time.Second, "length of a round")
	flag.IntVar(&o.connections, "connections", 64, "connections of the load")
	flag.IntVar(&o.idle, "idle", 5000, "idle connections whose memory is measured")
	flag.IntVar(&o.reloads, "reloads", 20, "reloads that are timed")
	flag.StringVar(&o.server, "server", "", "reuseportd's `binary`; by default it is built")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) error {
	if _, err := exec.LookPath("wrk"); err != nil {
		return fmt.Errorf("the load generator wrk is not here: apt-get install wrk")
	}
	if n := 2*o.idle + 1000; rig.RaiseLimit() < uint64(n) {
		return fmt.Errorf("%d idle connections need a descriptor limit of %d: raise `ulimit -Hn` or give -idle", o.idle, n)
	}
	if err := rig.Adopt(); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "rpbench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	all, err := contenders(ctx, dir, o)
	if err != nil {
		return err
	}
	printMachine(all)
	for _, c := range all {
		if err := c.Start(ctx); err != nil {
			return err
		}
		defer c.Stop()
	}
	var rows []row
	for _, load := range []load{
		{name: "CPU, one request on a kept connection"},
		{name: "CPU, one request on a fresh connection", header: "Connection: close"},
	} {
		r, err := measureCPU(ctx, o, load, all)
		if err != nil {
			return fmt.Errorf("%s: %w", load.name, err)
		}
		rows = append(rows, r...)
	}
	r, err := measureMemory(ctx, o, all)
	if err != nil {
		return fmt.Errorf("memory: %w", err)
	}
	rows = append(rows, r)
	if r, err = measureReload(ctx, o, all); err != nil {
		return fmt.Errorf("reload: %w", err)
	}
	rows = append(rows, r)
	printTable(rows, all)
	return nil
}
