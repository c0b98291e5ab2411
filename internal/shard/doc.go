// Package shard holds the listening sockets of the server, in the hands of the
// master: it binds them, puts them into the kernel's group in slot order,
// steers new connections among them, and takes them away with nothing lost.
//
// It owns every descriptor in a Group. It must never accept a connection, never
// make a net.Listener (which would bring the runtime's poller, a finalizer and
// MPTCP with it), and never close a shard that could still be found by a SYN.
//
// A Group is not safe for concurrent use: the master's one goroutine owns it.
package shard
