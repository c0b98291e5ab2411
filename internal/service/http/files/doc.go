// Package files answers with files below a directory (RFC 9110: conditions and ranges).
//
// It owns roots, open for as long as their site is, lookups that the kernel keeps below them, and what a
// loop remembers of small files. It must never wait, or know how an answer is framed.
//
// Root.plan decides an answer as data, without a stream: status, fields, and the bytes, the file or the
// parts of it that follow. Route.Serve sends that. Only an answer in several parts outlives the call: each
// part is queued when the one before has gone (Parts).
package files
