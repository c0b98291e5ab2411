// Package record is the record layer of TLS 1.2 and 1.3 (RFC 5246, RFC 8446), from the handshake's end on.
//
// A connection's state is data: a key and a number for each direction. So it can be written down, and go on in another
// process, with nothing shaken anew. What seals and opens is made of the keys when it is needed (Warm) and given back
// (Cool): an idle connection is some hundred bytes.
//
// It owns the keys and the numbers, and wipes what it lets go of. It never does a handshake, reads a socket, or says what
// to do with what it opened. Nothing that it is given is believed: each record is bounded, and each useless one counted.
package record
