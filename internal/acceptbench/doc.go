// Package acceptbench is `reuseportd bench accept`: it measures the ways in which
// event loops share a port, and the ways in which connections are steered to
// them, on the machine where it runs.
//
// It starts real masters and workers from this process's own binary and sees them
// from outside only: by their command line, control socket and /proc. Whatever
// becomes of it, it must leave nothing behind: no process, no stopped worker, no
// file. Of a bench that is killed itself the kernel ends the masters, which end
// their workers; only the directory of temporary files stays.
package acceptbench
