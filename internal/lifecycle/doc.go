// Package lifecycle decides about generations of workers, through reloads, upgrades,
// crashes and the end.
//
// It owns the state of the service: its generations, what is lent to whom, the change in progress, receipts,
// materials. The master (package upgrade) tells a Core of each event, one at a time, and carries out the actions that it
// returns, in their order; nothing else reaches into it. It starts no process, sends nothing, opens no file, and
// never waits. The sockets in custody are values that it holds, and binds, lends and closes itself.
//
// What holds at every moment:
//
//   - Every listening shard is lent to some loop that serves, whenever one does.
//   - A lease is withdrawn only when another loop has acknowledged the same
//     shard, or the shard is about to be closed.
//   - At most one change is in progress; whoever asked for one gets an answer.
package lifecycle
