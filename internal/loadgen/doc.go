// Package loadgen puts a bounded load of HTTP/1.1 requests, or of bytes that an echo
// sends back, on one address of this machine, with as little CPU as it can: some threads, each with an epoll
// instance and a table of connections.
//
// A load is closed or paced. A closed one has a fixed number of clients, each of
// which begins anew as soon as it is done: it shows what a server can do. A paced
// one begins at a fixed rate, whatever has become of the connections before, and
// latency counts from the time at which a connection was due, or a request of one
// that is kept, so that a server
// that stalls doesn't hide it by holding up the clock (coordinated omission).
//
// It measures from outside and must never import what it measures. Connections
// end by a reset after the server has closed (SO_LINGER 0), so that none stays in
// TIME_WAIT on either side and no round uses up the ports of the next one. Only those
// to an echo are closed in order by the client: a proxy is to see that.
package loadgen
