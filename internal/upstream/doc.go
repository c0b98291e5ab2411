// Package upstream chooses the server that a connection or a request goes to.
//
// It owns which servers an upstream has (their addresses, and those that names stand
// for), which of them are well, who is next, and the counters and the health of each,
// which lie in shared memory: the Board. A Set is the upstreams of one worker; it looks
// up names and asks servers how they are, in goroutines of its own. A Chooser belongs to
// one event loop. The package must never touch a client's connection, and what a loop
// calls must never wait, lock or allocate.
//
// Times are nanoseconds of CLOCK_MONOTONIC, which all processes of a machine share.
package upstream
