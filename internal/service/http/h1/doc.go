// Package h1 is HTTP/1's framing (RFC 9112): where heads and bodies begin and end, on the client's side
// and on the server's.
//
// It owns the bytes of messages on a connection. It must never know who answers a request, allocate in
// the path of a kept-alive one, or believe a message whose framing can be read in two ways.
package h1
