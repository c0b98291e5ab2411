// Package record is the record layer of TLS 1.2 and 1.3 (RFC 5246, RFC 8446), from the handshake's end on.
//
// A connection's state is data: a key and a number for each direction. So another process can continue it without a
// new handshake. The ciphers are made from the keys when they are needed (Warm) and freed (Cool): an idle connection
// takes a few hundred bytes.
//
// It owns the keys and the numbers, and overwrites keys before it frees them. It must never do a handshake, read a
// socket, or decide what to do with what it has opened. It believes nothing that a peer sends: each record is bounded,
// and those without use are counted.
package record
