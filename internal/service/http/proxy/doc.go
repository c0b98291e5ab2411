// Package proxy passes requests on to servers, and their responses back.
//
// It owns what happens between a client's stream and a connection to a server: which servers are tried
// (attempts), the bytes in both directions (Relay), tunnels, and the idle connections of a loop (Pool). It
// must never know a framing: the client's is behind stream.Stream, the server's behind stream.Call. It
// never keeps more of a request's body than came together with its head.
//
// A request comes to Route.Serve, which makes a Relay of it. The relay's attempts pick a server; a kept
// connection is taken or a new one dialled, joined to the client's (Stream.Join), and sent the request,
// which Rules compose from what was parsed. What the server sends comes to Relay.received, event by event.
// Content that needs no framing on either side never comes here: Conn.Pass passes it on in the event loop.
// If a server fails before it has sent anything, another one is tried, provided that the request may be
// repeated. A 101 makes a Tunnel of the two connections.
package proxy
