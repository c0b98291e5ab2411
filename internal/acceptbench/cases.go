package acceptbench

import (
	"fmt"
	"strings"
)

// Case is one configuration of the server under measurement.
type Case struct {
	Name    string `json:"name"`  // strategy or steering
	Model   string `json:"model"` // single, processes or threads
	Workers int    `json:"workers"`
	Threads int    `json:"threads"`
	Accept  string `json:"accept"`
	Shards  int    `json:"shards,omitempty"`
	// Steering, and CPUs to which loops are pinned; empty by default.
	Steering    string `json:"steering,omitempty"`
	CPUAffinity string `json:"cpu_affinity,omitempty"`
}

// combined is reuseport with fewer shards than loops, which then share each by
// EPOLLEXCLUSIVE.
const combined = "reuseport+exclusive"

// Strategies are the ways of accepting; the first is what others are compared with.
func Strategies() []string { return []string{"reuseport", combined, "exclusive", "mutex", "shared"} }

// Steerings are the ways of steering; the first is what others are compared with.
func Steerings() []string { return []string{"hash", "random", "cpu", "load"} }

// Models are the ways to run N event loops, and one alone.
func Models() []string { return []string{"single", "processes", "threads"} }

// cases returns what o asks for: for each model all strategies.
func cases(o *Options) []Case {
	var all []Case
	if o.Steering {
		for _, name := range o.Only {
			c := Case{Name: name, Model: "processes", Workers: o.Loops, Threads: 1, Accept: "reuseport", Steering: name}
			if name == "cpu" {
				c.CPUAffinity = "auto"
			}
			all = append(all, c)
		}
		return all
	}
	for _, model := range o.Models {
		for _, name := range o.Only {
			c := Case{Name: name, Model: model, Workers: 1, Threads: 1, Accept: name}
			switch model {
			case "processes":
				c.Workers = o.Loops
			case "threads":
				c.Threads = o.Loops
			}
			if name == combined {
				c.Accept, c.Shards = "reuseport", max(1, c.Loops()/2)
			}
			all = append(all, c)
		}
	}
	return all
}

// Loops returns the number of the case's event loops.
func (c Case) Loops() int { return c.Workers * c.Threads }

// config returns the configuration file of a server at address.
func (c Case) config(address string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "workers: %d\nthreads: %d\nwatch: false\ndrain_timeout: 1s\nprobation: 0s\n", c.Workers, c.Threads)
	if c.CPUAffinity != "" {
		fmt.Fprintf(&b, "cpu_affinity: %s\n", c.CPUAffinity)
	}
	fmt.Fprintf(&b, "log: {level: warn, format: text}\nlisteners:\n  - name: web\n    address: %s\n    accept: %s\n", address, c.Accept)
	if c.Shards > 0 {
		fmt.Fprintf(&b, "    shards: %d\n", c.Shards)
	}
	if c.Steering != "" {
		fmt.Fprintf(&b, "    steering: %s\n", c.Steering)
	}
	b.WriteString("    http: {routes: [{respond: {body: \"hello\\n\"}}]}\n")
	return b.String()
}
