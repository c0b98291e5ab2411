// Package http is the HTTP service: sites, their routes, and how they are put together.
//
// It owns which route a request has, and the forms in which connections go to another process. It must
// never know what an answer consists of or how it is framed: that is below, in packages that meet in
// stream alone.
//
//	message    heads as data                     stream   the seam: Stream, Responder, Route, Call
//	h1         HTTP/1's framing, both sides      files    static files      proxy   what servers say
//	accesslog  a line for each request
//
// A Site is a configuration compiled, shared by all loops of a worker: its routes by host and path. In each
// loop a service binds them (binding) and gives them to the framing, which asks Find for each request. A kind
// of route is a file route_….go and a line in the table kinds; one whose answers outlive a call has a
// number in stream.Kind and a line in the table thaws as well. Servers don't all read a path alike, so a
// request that another server could take for another route's is refused (readings.go).
//
// Words: an answer ends (it is whole), fails (an error answers in its place), or is aborted (broken off). What
// is left is not touched; what is released is closed too; what is recycled is room for another.
package http
