package acceptbench

import (
	"fmt"
	"runtime"
	"strings"
)

// Limit is what prevented a load from doing more.
type Limit string

// The limits. It is none of these, as it should be, if the server used 90 % of the CPUs
// that its event loops can use, or if a paced load reached its rate.
const (
	NoLimit   Limit = ""
	Generator Limit = "generator" // the load's threads used 90 % of the CPUs that they can use
	Machine   Limit = "machine"   // less than 10 % of the machine's CPU time was left
	Others    Limit = "others"    // other programs, or the hypervisor, used 15 % of the machine's CPU time
	Clients   Limit = "clients"   // nothing was busy: too few connections
	Behind    Limit = "behind"    // a paced load did less than 97 % of its rate, by more than the few that a window's ends cut off
	Late      Limit = "late"      // …or began so late that its latencies are half its own
)

const (
	busy  = 0.90
	full  = 0.10
	other = 0.15
	onPar = 0.97
	own   = 0.50
	few   = 3 // connections
)

// limit is the rule for loads that go as fast as they can. Percentages are of one
// CPU.
func limit(cpus, loops, threads int, server, generator, idle float64) Limit {
	all := 100 * float64(cpus)
	switch {
	case server >= busy*100*float64(min(loops, cpus)):
		return NoLimit
	case generator >= busy*100*float64(min(threads, cpus)):
		return Generator
	case all-server-generator-idle >= other*all:
		return Others
	case idle <= full*all:
		return Machine
	default:
		return Clients
	}
}

// pacedLimit is the rule for paced loads, in windows of so many seconds. Latencies
// are p99.
func pacedLimit(seconds, rate, done, late, latency float64) Limit {
	switch {
	case done < onPar*rate && (rate-done)*seconds > few:
		return Behind
	case late > own*latency:
		return Late
	default:
		return NoLimit
	}
}

func limitOf(r *Result, c *CaseResult, load string) Limit {
	at := func(key string) float64 { return c.figure(load, key).Median }
	if load == "paced" {
		return pacedLimit(r.DurationMS/1000, float64(r.Rate), at("rate"), at("late_us"), at("p99_us"))
	}
	return limit(r.CPUs, c.Loops(), generatorThreads(), at("cpu_percent"), at("generator_percent"), at("idle_percent"))
}

func cpus() int { return runtime.NumCPU() }

// generatorThreads are those of the load generator.
func generatorThreads() int { return min(cpus(), 16) }

var limitTexts = map[Limit]string{
	Generator: "the load generator was the bottleneck: the rates are its own, and the server could do more",
	Machine:   "no CPU was left: load generator and server share the machine, so trust the CPU time each more than the rates",
	Others:    "other programs, or the hypervisor, took a good part of the CPU time: measure again when the machine is quiet",
	Clients:   "neither server nor load generator was busy: more --connections may give more",
	Behind:    "the rate was not reached: the latencies are those of an overload; give a lower --rate",
	Late:      "the load generator itself was late: p99 and p99.9 are rather its own; give a lower --rate",
}

// warn says in words what limits were met, and where counts disagree.
func (r *Result) warn() {
	for _, load := range loads {
		met := make(map[Limit][]string)
		for i := range r.Cases {
			c := &r.Cases[i]
			l := c.load(load)
			if l == nil {
				continue
			}
			met[l.Limit] = append(met[l.Limit], c.label())
			r.warnCounts(c, load, l)
			r.warnSpared(c, l)
		}
		for _, limit := range []Limit{Generator, Others, Machine, Clients, Behind, Late} {
			if names := met[limit]; len(names) > 0 {
				where := strings.Join(names, ", ")
				if len(names) > 3 { // each case's limit is in the JSON
					where = fmt.Sprintf("%d of %d cases", len(names), len(r.Cases))
				}
				r.Warnings = append(r.Warnings, fmt.Sprintf("%s load (%s): %s.", load, where, limitTexts[limit]))
			}
		}
	}
}

func (r *Result) warnCounts(c *CaseResult, load string, l *LoadResult) {
	if l.Load.Failed > 0 || l.Load.Lost > 0 {
		r.Warnings = append(r.Warnings, fmt.Sprintf("%s load, %s: %d connects failed and %d requests were lost, of %d.",
			load, c.label(), l.Load.Failed, l.Load.Lost, l.Load.Connects))
	}
	if !agree(l.Load, l.Server) {
		r.Warnings = append(r.Warnings, fmt.Sprintf("%s load, %s: the server has counted %d connections and %d requests, the load %d and %d.",
			load, c.label(), l.Server.Accepted, l.Server.Requests, l.Load.Connects, l.Load.Answered))
	}
}

// warnSpared says that the slow worker got no connections: with steering by CPU and more
// workers than CPUs, some get nothing.
func (r *Result) warnSpared(c *CaseResult, l *LoadResult) {
	if r.Steering && len(l.Workers) > 0 && l.Workers[0].Accepted == 0 {
		r.Warnings = append(r.Warnings, fmt.Sprintf("%s: the slow worker got no connection at all, so these latencies are those of workers that never stood still.", c.Name))
	}
}

func (c *CaseResult) label() string { return c.Name + " " + c.Model }
