// Package h1 is HTTP/1's framing (RFC 9112), on the clients' side and on the servers'.
//
// It owns where messages begin and end on a connection, and what becomes of the connection behind them. It
// must never know who answers a request, allocate in the path of a kept-alive one, or believe a message
// whose framing can be read in two ways.
//
// Clients: Handler is called by the event loop. readHead parses a head (ParseRequest) and asks the Site for
// its route. A route that doesn't read bodies is called when the body has gone by (discardBody), one that
// does at once (begin), and its responder is given the body as it comes (passBody). A Stream is one request:
// the handler's spare one if the route answers at once, else it is attached to its connection, with the
// head, which is parsed again when somebody asks for the request. What is queued on it is framed by length, in
// chunks (Encoder) or by the connection's end. finish leaves the connection to its next request.
//
// Servers: a Call writes a request (AppendRequest) and takes what comes apart into events (Next).
//
// State, CallState and Chunks are what a connection is in the middle of, as data that goes to another
// process.
package h1
