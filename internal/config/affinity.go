package config

import (
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"reuseportd/internal/config/yaml"
)

// readAffinity reads the CPUs that event loops are pinned to: auto, off, or a list of
// their numbers.
func readAffinity(d *decoder, n *yaml.Node, c *Config) {
	usable := []int(nil)
	if d.host != nil {
		usable = d.host.cpus()
	}
	switch {
	case n.Kind == yaml.Text && n.Text == "auto":
		c.CPUs = usable
		d.pinned = true
	case n.Kind == yaml.Text && n.Text == "off":
	case n.Kind == yaml.Sequence && len(n.Items) > 0:
		d.pinned = true
		for _, item := range n.Items {
			cpu, ok := item.Integer()
			switch {
			case !ok || cpu < 0 || cpu >= maxCPUs:
				d.wrong(item, "", "a list of CPU numbers from 0 on")
			case d.host == nil:
			case !slices.Contains(usable, int(cpu)):
				d.rep.Add(item.Pos, "the affinity mask allows "+cpuList(usable), "this process may not use CPU %d", cpu)
			default:
				c.CPUs = append(c.CPUs, int(cpu))
			}
		}
	default:
		d.wrong(n, "auto pins each event loop to the next CPU", "auto, off or a list of CPU numbers")
	}
}

// needPinning refuses what makes no sense without pinned loops.
func (d *decoder) needPinning(c *Config) {
	for i := range c.Listeners {
		l := &c.Listeners[i]
		if l.Accept == AcceptReuseport && (l.Steering == SteerCPU || l.Steering == SteerLoad && l.Fallback == SteerCPU) && !d.pinned {
			d.rep.Add(l.Pos, "add cpu_affinity: auto at the top of the file",
				"steering: cpu chooses the loop that is pinned to the packet's CPU, and none is pinned")
		}
	}
}

// maxCPUs is how many CPUs unix.CPUSet has room for.
const maxCPUs = 1024

// affinity returns the CPUs that this process may use, sched_getaffinity(2).
func affinity() []int {
	var set unix.CPUSet
	if unix.SchedGetaffinity(0, &set) != nil {
		return []int{0}
	}
	var cpus []int
	for i := range maxCPUs {
		if set.IsSet(i) {
			cpus = append(cpus, i)
		}
	}
	return cpus
}

// cpuList writes 0-3,6.
func cpuList(cpus []int) string {
	out := ""
	for i := 0; i < len(cpus); i++ {
		first := cpus[i]
		for i+1 < len(cpus) && cpus[i+1] == cpus[i]+1 {
			i++
		}
		if out != "" {
			out += ","
		}
		if out += fmt.Sprint(first); cpus[i] > first {
			out += fmt.Sprintf("-%d", cpus[i])
		}
	}
	return out
}
