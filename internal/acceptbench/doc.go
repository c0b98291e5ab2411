// Package acceptbench is `reuseportd bench accept`: it measures the ways in which
// event loops share a port, and the ways in which connections are steered to
// them, on the machine where it runs.
//
// It owns the cases, the figures and what is printed. It starts real masters and workers
// from this process's own binary and sees them from outside only: by their command line,
// control socket and /proc. However it ends, it must leave nothing behind: no process, no
// stopped worker, no file. If the bench itself is killed, the kernel ends the masters,
// and these their workers; only the directory of temporary files stays.
package acceptbench
