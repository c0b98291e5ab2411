// Package shard holds the master's listening sockets: it binds them, puts them into the
// kernel's reuseport group in slot order, steers new connections among them, and closes
// them without losing one.
//
// It owns every descriptor in a Group. It must never accept a connection, never
// make a net.Listener (which would bring the runtime's poller, a finalizer and
// MPTCP with it), and never close a shard that could still be found by a SYN.
//
// How it works. A Group is the sockets of one address. Bind adds shards (bind.go), Listen
// makes them listen, the first one alone so that the kernel refuses an address that
// others have (others.go). SetPolicy and Steer attach the program that chooses among them
// (policy.go, loadprogram.go). retire.go has the steps by which shards are closed:
// nothing is closed before it is hidden and empty (hide.go, halfopen.go, queue.go).
//
// A Group is not safe for concurrent use: the master's one goroutine owns it.
package shard
