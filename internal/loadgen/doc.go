// Package loadgen puts a bounded load of HTTP/1.1 requests, or of bytes that an echo sends back, on one
// address of this machine, with as little CPU time as possible. It owns a few threads, each with an epoll
// instance and a table of connections.
//
// A load is closed or paced. A closed one has a fixed number of clients, each of which
// begins the next request as soon as one is done: it shows what a server can do. A paced
// one begins connections, or requests on kept ones, at a fixed rate, whatever has become
// of earlier ones. Latency counts from when they were due, so that a server that stalls
// can't hide it by delaying the load (coordinated omission).
//
// It measures from outside and must never import what it measures. Connections end by a
// reset after the server has closed (SO_LINGER 0), so that none stays in TIME_WAIT on
// either side and no round uses up the ports of the next one. Only those to an echo are
// closed in order by the client, so that a proxy sees that.
package loadgen
