// Package accesslog writes a line for each request that was answered.
//
// A loop formats a line and puts it into a ring of its own; one goroutine writes what is in all rings
// every 50 ms. It must never make a loop wait: a line that finds no room in the ring, or can't be
// written to the file, is dropped and counted. It knows no connection and no framing.
package accesslog
