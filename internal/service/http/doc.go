// Package http is the HTTP/1.1 service (RFC 9110, RFC 9112): a parser and a
// handler that run in the event loop.
//
// It owns the meaning of the bytes on a connection. It must never block,
// allocate in the path of a kept-alive request, or believe a message whose
// framing can be read in two ways.
package http
