package acceptbench

import (
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"time"

	"reuseportd/internal/rig"
)

// Options are what the bench is asked for. Zero values stand for defaults.
type Options struct {
	Loops       int           // event loops of the models processes and threads, and of Steering
	Rounds      int           // of each case
	Duration    time.Duration // of each load in a round
	Connections int           // clients of the closed loads
	Rate        int           // connections per second of the paced load; 0: a quarter of what one loop manages
	Only        []string      // strategies, or steerings
	Models      []string
	Quick       bool // fewer and shorter rounds
	Steering    bool // compare steerings with one slow worker instead of strategies

	Version  string // of this binary
	Path     string // of this binary
	Progress io.Writer
	Terminal bool // Progress is a terminal
}

// The shortest useful loads: below these, CPU time is mostly noise.
const (
	leastDuration      = 20 * time.Millisecond
	leastSteerDuration = stallEvery
)

// spareFDs is how many descriptors are needed for other things than connections.
const spareFDs = 256

// Settle fills in defaults and checks the rest. Its errors are for people.
func (o *Options) Settle() error {
	o.fill()
	known, what := Strategies(), "strategy"
	least := leastDuration
	if o.Steering {
		known, what, least = Steerings(), "steering", leastSteerDuration
	}
	if err := choose(&o.Only, known, "--only", what); err != nil {
		return err
	}
	if o.Steering && len(o.Models) > 0 {
		return errors.New("--models: with --steering there is only one, processes")
	}
	if err := choose(&o.Models, Models(), "--models", "model"); err != nil {
		return err
	}
	for _, n := range []struct {
		flag             string
		value, low, high int
	}{
		{"--loops", o.Loops, 1, 256},
		{"--rounds", o.Rounds, 1, 1000},
		{"--connections", o.Connections, 1, 100000},
		{"--rate", o.Rate, 0, 1000000},
	} {
		if n.value < n.low || n.value > n.high {
			return fmt.Errorf("%s %d: write a number from %d to %d", n.flag, n.value, n.low, n.high)
		}
	}
	if o.Duration < least || o.Duration > 10*time.Minute {
		return fmt.Errorf("--duration %v: write a time from %v to 10m", o.Duration, least)
	}
	if o.Steering && o.Loops < 2 {
		return fmt.Errorf("--loops %d: with one event loop there is nothing to steer; write at least 2", o.Loops)
	}
	return checkLimit(o.Connections, rig.RaiseLimit())
}

func checkLimit(connections int, limit uint64) error {
	need := uint64(connections + spareFDs)
	if limit >= need {
		return nil
	}
	or := ""
	if limit > spareFDs {
		or = fmt.Sprintf(", or write at most %d", limit-spareFDs)
	}
	return fmt.Errorf("--connections %d needs a descriptor limit of %d, and it is %d: raise `ulimit -Hn`%s", connections, need, limit, or)
}

func (o *Options) fill() {
	rounds, duration, loops := 5, 500*time.Millisecond, runtime.NumCPU()
	if o.Quick {
		rounds, duration = 3, 150*time.Millisecond
	}
	if o.Steering {
		rounds, duration, loops = 5, 5*time.Second, 4
		if o.Quick {
			rounds, duration = 2, 2*time.Second
		}
	}
	o.Rounds, o.Loops = orElse(o.Rounds, rounds), orElse(o.Loops, loops)
	o.Duration = orElse(o.Duration, duration)
	o.Connections = orElse(o.Connections, 64)
}

func orElse[T comparable](v, other T) T {
	var zero T
	if v == zero {
		return other
	}
	return v
}

// choose checks chosen against known and sorts it in the order of known; empty means all.
func choose(chosen *[]string, known []string, flag, what string) error {
	if len(*chosen) == 0 {
		*chosen = known
		return nil
	}
	for _, name := range *chosen {
		if !slices.Contains(known, name) {
			return fmt.Errorf("%s: unknown %s %q: there are %s", flag, what, name, strings.Join(known, ", "))
		}
	}
	*chosen = slices.DeleteFunc(slices.Clone(known), func(name string) bool { return !slices.Contains(*chosen, name) })
	return nil
}
