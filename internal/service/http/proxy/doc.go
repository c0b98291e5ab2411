// Package proxy answers with what a server says.
//
// It owns what happens between a client's stream and a connection to a server: which server is asked, and
// which next (attempts), the bytes to and fro (Relay), tunnels, and the idle connections of a loop (Pool).
// It must never know a framing: the client's is behind stream.Stream, the server's behind stream.Call. It
// never keeps more of a request's body than came together with its head.
//
// A request comes to Route.Serve, which makes a Relay of it. The relay's attempts pick a server; a kept
// connection is taken or a new one dialled, tied to the client's (Stream.Join), and sent the request, which
// Rules compose anew from what was parsed. What the server says comes to Relay.received, event by event.
// Bytes of content that need no framing on either side never come here: Conn.Pass hands them on in the
// event loop. A server that fails before it has said anything is followed by another one, if the request
// may be repeated. A 101 makes a Tunnel of the two connections.
package proxy
