// Command handover measures what a binary upgrade costs connected clients:
//
//	go run ./bench/handover
//
// With some thousand idle kept connections and some busy clients on the server,
// its binary is replaced by itself. Measured are the time from the cut-over to
// the last connection's handover and to the end of the old processes, and the
// busy clients' latency before and meanwhile. The server's own account is held
// against what is seen from outside: every idle connection must have one more
// request answered, and the old workers are watched until they end. Rounds of
// all sizes are interleaved, so that a change of the machine meets all of them.
// It takes two or three minutes and leaves nothing behind.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"time"

	"reuseportd/internal/rig"
)

type options struct {
	sizes   sizes
	rounds  int
	clients int
	workers int
	drain   time.Duration
	json    bool
	server  string
}

// sizes are numbers of idle connections.
type sizes []int

func (s *sizes) String() string { return strings.Trim(fmt.Sprint([]int(*s)), "[]") }

func (s *sizes) Set(text string) error {
	*s = nil
	for field := range strings.SplitSeq(text, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(field))
		if err != nil || n < 1 {
			return fmt.Errorf("%q is no number of connections", field)
		}
		*s = append(*s, n)
	}
	return nil
}

func main() {
	o := options{sizes: sizes{1000, 2000, 4000, 8000}}
	flag.Var(&o.sizes, "connections", "`numbers` of idle connections, with commas between")
	flag.IntVar(&o.rounds, "rounds", 5, "upgrades with each number")
	flag.IntVar(&o.clients, "clients", 64, "busy clients")
	flag.IntVar(&o.workers, "workers", 2, "the server's workers")
	flag.DurationVar(&o.drain, "drain", 2*time.Second, "the server's drain_timeout")
	flag.BoolVar(&o.json, "json", false, "print JSON")
	flag.StringVar(&o.server, "server", "", "reuseportd's `binary`; by default it is built")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), rig.Interrupts()...)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "bench-handover:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) error {
	const spare = 1000 // descriptors for all else; the server may get all connections in one worker
	for _, n := range o.sizes {
		if limit := rig.RaiseLimit(); limit < uint64(n+o.clients+spare) {
			return fmt.Errorf("%d idle connections need a descriptor limit of %d: raise `ulimit -Hn` or give -connections", n, n+o.clients+spare)
		}
	}
	if err := rig.Adopt(); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "rpbench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	server, err := rig.NewReuseportd(ctx, dir, o.server)
	if err != nil {
		return err
	}
	if err := server.Configure(o.workers, o.drain); err != nil {
		return err
	}
	if err := server.Start(ctx); err != nil {
		return err
	}
	defer server.Stop()
	r, err := measure(ctx, o, server)
	if err != nil {
		return err
	}
	if o.json {
		enc := json.NewEncoder(os.Stdout)
		enc.SetIndent("", "  ")
		return enc.Encode(r)
	}
	return r.print(os.Stdout)
}

// measure does all rounds.
func measure(ctx context.Context, o options, server *rig.Reuseportd) (*report, error) {
	b := bench{o: o, server: server, exact: server.Has(ctx, "upgrade", "--drained")}
	if !b.exact {
		fmt.Fprintln(os.Stderr, "bench-handover: this server's upgrade has no --drained; the end is what is seen from outside")
	}
	r := newReport(o, server.Version)
	for i := range o.rounds {
		for j := range o.sizes {
			n := o.sizes[(i+j)%len(o.sizes)] // none is always first
			result, err := b.round(ctx, n)
			if err != nil {
				return nil, fmt.Errorf("round %d with %d connections: %w", i+1, n, err)
			}
			r.add(result)
		}
	}
	return r, nil
}
