// Package files answers with files below a directory (RFC 9110: conditions and ranges).
//
// It owns the root directories, which are open as long as their site, the lookup of files, which the
// kernel keeps below a root, and a cache of small files in each loop. It must never wait for a client,
// or know how an answer is framed.
//
// Root.plan decides an answer as data, without a stream: status, fields, and the bytes, the file or the
// parts of it that follow. Route.Serve sends that. Only an answer in several parts outlives the call: each
// part is queued when the previous one has been written (Parts).
package files
