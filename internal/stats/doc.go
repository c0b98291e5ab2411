// Package stats keeps the counters of event loops in shared memory, where they
// outlive the process that wrote them.
//
// It owns the layout of that memory. The Ledger is one memfd for the whole service, which
// lives as long as any of its processes: a 4 KiB page for each event loop, and the sum of
// what earlier loops counted. A Region is the part of it that one worker maps. A page has
// one writer, its loop, which uses plain stores; any number of other processes read it.
// The package must never put a lock, an allocation or a system call between a loop and
// its counters.
package stats
