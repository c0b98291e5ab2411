// Command proxy measures what it costs to pass traffic on, side by side with nginx
// and HAProxy:
//
//	go run ./bench/proxy
//
// CPU time of a GiB of TCP, of a TCP connection and of an HTTP request, private
// memory of an idle TCP pair, and what the proxy adds to latency at a fixed rate.
// All proxies have two workers or threads and are configured as their own manuals
// advise; rounds are interleaved and nobody is always first. CPU time is what /proc
// says of all of a proxy's processes, so that the load and the servers behind don't
// count. What isn't installed is installed, if apt-get and root are there. It prints
// Markdown, takes about ten minutes and leaves nothing behind but those packages.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"reuseportd/internal/rig"
)

type options struct {
	rounds      int
	duration    time.Duration
	connections int
	pairs       int
	only        string
	server      string
	output      string
}

func main() {
	if len(os.Args) == 4 && os.Args[1] == relayRole {
		fmt.Fprintln(os.Stderr, relay(os.Args[2], os.Args[3]))
		os.Exit(1)
	}
	var o options
	flag.IntVar(&o.rounds, "rounds", 5, "rounds of each load")
	flag.DurationVar(&o.duration, "duration", 3*time.Second, "length of a round, in whole seconds")
	flag.IntVar(&o.connections, "connections", 64, "connections of each load but bulk")
	flag.IntVar(&o.pairs, "pairs", 4000, "idle pairs whose memory is measured")
	flag.StringVar(&o.only, "only", "", "do only the loads of this `list`: bulk,connections,requests,memory,latency")
	flag.StringVar(&o.server, "server", "", "reuseportd's `binary`; by default it is built")
	flag.StringVar(&o.output, "o", "", "write what is printed to this `file`, too")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "bench-proxy:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) error {
	chosen, err := choose(o.only)
	if err != nil {
		return err
	}
	// A proxy has two descriptors for a pair; nginx's workers are given 8192 connections each.
	if n := 2*o.pairs + 1000; rig.RaiseLimit() < uint64(n) || o.pairs > 6000 {
		return fmt.Errorf("%d idle pairs are more than 6000, or more than the descriptor limit allows: give -pairs", o.pairs)
	}
	rig.Install(ctx, "bench-proxy", rig.NginxPackage, rig.NginxStreamPackage, rig.HAProxyPackage, rig.WrkPackage, rig.IperfPackage)
	if err := rig.Adopt(); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "rpproxy")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		return err
	}
	b, err := newBench(ctx, dir, o)
	if err != nil {
		return err
	}
	defer b.stop()
	if err := b.start(ctx); err != nil {
		return err
	}
	var rows []row
	for _, l := range chosen {
		r, err := l.measure(ctx, b)
		if err != nil {
			return fmt.Errorf("%s: %w", l.name, err)
		}
		rows = append(rows, r...)
	}
	return b.report(o.output, rows)
}

// load is one kind of traffic, and what is measured of it.
type load struct {
	name    string
	measure func(context.Context, *bench) ([]row, error)
}

// loads are in the order in which they run. Memory restarts the proxies.
var loads = []load{
	{"bulk", bulk},
	{"connections", connections},
	{"requests", requests},
	{"memory", memory},
	{"latency", latency},
}

// choose returns the loads whose names are in a list, all if that is empty.
func choose(list string) ([]load, error) {
	if list == "" {
		return loads, nil
	}
	var chosen []load
	for name := range strings.SplitSeq(list, ",") {
		found := false
		for _, l := range loads {
			if l.name == strings.TrimSpace(name) {
				chosen, found = append(chosen, l), true
			}
		}
		if !found {
			return nil, fmt.Errorf("-only %s: there is no load %q", list, name)
		}
	}
	return chosen, nil
}

// report prints the rows, and writes them to a file if one is given.
func (b *bench) report(path string, rows []row) error {
	var w io.Writer = os.Stdout
	if path != "" {
		f, err := os.Create(path)
		if err != nil {
			return err
		}
		defer f.Close()
		w = io.MultiWriter(os.Stdout, f)
	}
	return b.print(w, rows)
}
