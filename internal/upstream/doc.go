// Package upstream chooses the server that a connection or a request goes to.
//
// It owns the list of an upstream's servers, with the addresses of names, and the choice
// of the next one. The health and the counters of servers are in memory that all workers
// share, the Board. The package must never touch a client's connection, and the functions
// that a loop calls must never wait, lock or allocate.
//
// How it works. A Set is the upstreams of one worker. In goroutines of its own it
// resolves names (name.go, last.go) and checks servers (check.go, probe.go); each check
// is made by one worker for all. A pool has an upstream's current list of servers, each
// with an entry on the Board (claim.go, layout.go). A Chooser belongs to one event loop:
// Pick chooses a server (balance.go) and counts a session in the loop's row, Done ends
// the session, Failed and Succeeded change the server's health (health.go).
//
// Times are nanoseconds of CLOCK_MONOTONIC, which all processes of a machine share.
package upstream
