package acceptbench

import (
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"reuseportd/internal/control"
	"reuseportd/internal/loadgen"
	"reuseportd/internal/rig"
)

// runner is one run of the bench.
type runner struct {
	o        *Options
	dir      string // for all servers' files
	servers  int    // started so far
	result   *Result
	progress progress
}

// Run measures, with options that Settle has settled, until it is done or ctx
// ends. Nothing is left when it returns.
func Run(ctx context.Context, o Options) (*Result, error) {
	if err := rig.Adopt(); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "reuseportd-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	// The path of a Unix socket may not be long.
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		return nil, err
	}
	if err := checkDir(dir); err != nil {
		return nil, err
	}
	r := &runner{o: &o, dir: dir}
	began := time.Now()
	if o.Rate == 0 {
		if o.Rate, err = r.calibrate(ctx); err != nil {
			return nil, fmt.Errorf("find a rate: %w", err)
		}
	}
	r.result = newResult(&o)
	if err := r.rounds(ctx); err != nil {
		return nil, err
	}
	r.result.finish(time.Since(began))
	return r.result, nil
}

// checkDir returns an error, before anything is started, if the servers' control sockets
// would have too long a path, unix(7).
func checkDir(dir string) error {
	const most = len(unix.RawSockaddrUnix{}.Path) - 1
	// The longest path: the number of a server has few digits.
	if n := len(control.SocketPath(filepath.Join(dir, "00000", "run"))); n > most {
		return fmt.Errorf("the path of a control socket in %s would have %d bytes, and %d are the most: set a shorter TMPDIR", dir, n, most)
	}
	return nil
}

// rounds measures every case once before any is measured again, so that a change of the
// machine affects all. No case is always first.
func (r *runner) rounds(ctx context.Context) error {
	all := r.result.Cases
	r.progress = progress{
		w: r.o.Progress, terminal: r.o.Terminal, rounds: r.o.Rounds, total: r.o.Rounds * len(all), began: time.Now(),
	}
	defer r.progress.end()
	for round := range r.o.Rounds {
		for i := range all {
			c := &all[(i+round)%len(all)]
			r.progress.next(round+1, c.label())
			if err := r.round(ctx, c); err != nil {
				return fmt.Errorf("%s: %w", c.label(), err)
			}
			r.progress.step()
		}
	}
	return nil
}

// round measures one case once, with a server of its own.
func (r *runner) round(ctx context.Context, c *CaseResult) error {
	return r.serve(ctx, c.Case, func(s *server) error {
		var err error
		if c.Note, err = s.remark(ctx, c.Case); err != nil {
			return err
		}
		for _, load := range loads {
			l := c.load(load)
			if l == nil {
				continue
			}
			w, err := r.measure(ctx, s, load)
			if err != nil {
				return fmt.Errorf("%s load: %w", load, err)
			}
			l.add(&w)
		}
		return nil
	})
}

func (r *runner) measure(ctx context.Context, s *server, load string) (window, error) {
	c := loadgen.Config{Connections: r.o.Connections, Threads: generatorThreads(), Kept: load == "kept"}
	if load == "paced" {
		c.Rate = float64(r.o.Rate)
		// In a stall connections pile up; only the descriptors bound them.
		c.Connections = min(16384, max(c.Connections, int(rig.RaiseLimit())-spareFDs))
	}
	if r.o.Steering {
		return s.measureSlow(ctx, c, r.o.Duration)
	}
	return s.measure(ctx, c, r.o.Duration)
}

// serve starts a server for c, uses it and ends it.
func (r *runner) serve(ctx context.Context, c Case, use func(*server) error) error {
	r.servers++
	s, err := startServer(ctx, r.o, c, filepath.Join(r.dir, fmt.Sprint(r.servers)))
	if err != nil {
		return err
	}
	defer s.stop()
	return use(s)
}

// calibrate finds a rate at which every case is idle from time to time: a quarter of what
// one event loop manages on this machine.
func (r *runner) calibrate(ctx context.Context) (rate int, err error) {
	c := Case{Name: "reuseport", Model: "single", Workers: 1, Threads: 1, Accept: "reuseport"}
	err = r.serve(ctx, c, func(s *server) error {
		load := loadgen.Config{Connections: r.o.Connections, Threads: generatorThreads()}
		w, err := s.measure(ctx, load, min(r.o.Duration, time.Second))
		rate = quarterOf(float64(w.done) / w.seconds)
		return err
	})
	return rate, err
}

// quarterOf returns a quarter of a rate, rounded to two digits.
func quarterOf(rate float64) int {
	unit := math.Pow(10, math.Floor(math.Log10(max(rate/4, 10)))-1)
	return max(1, int(math.Round(rate/4/unit)*unit))
}

// remark returns the server's own words if it doesn't steer as configured.
func (s *server) remark(ctx context.Context, c Case) (string, error) {
	if c.Steering == "" {
		return "", nil
	}
	st, err := s.status(ctx)
	if err != nil {
		return "", err
	}
	for _, l := range st.Listeners {
		if l.Steering != c.Steering {
			return fmt.Sprintf("not permitted here, so %s is what was measured (%s)", orElse(l.Steering, "hash"), l.SteeringNote), nil
		}
	}
	return "", nil
}
