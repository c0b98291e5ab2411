// Package accesslog writes a line for each request that was answered.
//
// A loop formats a line and puts it into a ring of its own; one goroutine writes what is in all rings
// every 50 ms. No loop ever waits for the log: what finds no room in the ring, or is not taken by the
// file, is dropped and counted. It knows no connection and no framing.
package accesslog
