// Package http is the HTTP service: sites, their routes, and how the packages below it
// are put together.
//
// It owns the choice of a request's route, and the forms in which connections go to another process.
// It must never know what an answer consists of or how it is framed: that is for the packages below,
// which meet in stream alone.
//
//	message    heads as data                     stream   the seam: Stream, Responder, Route, Call
//	h1         HTTP/1's framing, both sides      files    static files      proxy   servers behind us
//	accesslog  a line for each request
//
// A Site is a compiled configuration, shared by all loops of a worker: its routes by host and path. In each
// loop a service binds them (binding) and gives them to the framing, which asks Find for each request. A kind
// of route is a file route_….go and a line in the table kinds; one whose answers outlive a call also has a
// number in stream.Kind and a line in the table thaws. Servers don't all read a path alike, so a request is
// refused if a server could read in its path that of another route (readings.go).
//
// Words: an answer ends (it is complete), fails (an error is sent in its place), or is aborted (it is
// incomplete, and the client can see that). docs/ARCHITECTURE.md has the others.
package http
