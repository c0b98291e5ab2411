// Package h1 is HTTP/1's framing (RFC 9112), on the clients' side and on the servers'.
//
// It owns where messages begin and end on a connection, and whether the connection lives on after one. It
// must never know who answers a request, allocate while it serves a request on a kept connection, or
// accept a message whose framing can be read in two ways.
//
// Clients: Handler is called by the event loop. readHead parses a head (ParseRequest) and asks the Site for
// its route. A route that doesn't read bodies is called when the body has been read and discarded
// (discardBody). One that does is called at once (begin), and its responder is given the body as it comes
// (passBody). A Stream is one request. If the route answers at once it is the handler's spare one; otherwise
// it is attached to its connection, together with the head, which is parsed again when somebody asks for the
// request. What is queued on it is framed by length, in chunks (Encoder) or by the connection's end. finish
// makes the connection wait for its next request.
//
// Servers: a Call writes a request (AppendRequest) and splits what comes back into events (Next).
//
// State, CallState and Chunks are the data by which another process continues a request.
package h1
