// Package stats keeps the counters of event loops in shared memory, where they
// outlive the process that wrote them.
//
// It owns the layout of that memory: one memfd for each worker, one 4 KiB page
// for each of its event loops. A page has one writer, its loop, which uses
// plain stores; any number of other processes read it. It must never put a
// lock, an allocation or a system call between a loop and its counters.
package stats
