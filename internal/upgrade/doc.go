// Package upgrade is the master: the coordinator of generations, through
// reloads, binary upgrades, crashes and the end.
//
// It owns the listening sockets in custody, the worker processes, the runtime
// directory and the life of every generation. One goroutine, that of
// coordinator.run, owns the state; everybody else sends it events. It must never
// touch a client's byte, and never close a socket or end a worker that is the
// only one to serve it.
//
// The decisions are in core and its files: state and event in, calls of host out.
// What holds at every moment:
//
//   - Every listening shard is lent to some loop that serves, whenever one does.
//   - A lease is withdrawn only when another loop has acknowledged the same
//     shard, or the shard is about to be closed.
//   - At most one change is in progress; whoever asked for one gets an answer.
package upgrade
