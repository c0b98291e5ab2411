// Package message is the heads of HTTP messages as data: requests and responses, their fields, targets,
// statuses and dates, and which fields are for one connection alone (RFC 9110).
//
// It knows no connection and no framing, imports nothing of this project, and refuses each head that is
// not strictly well-formed, so none is accepted that can be read in two ways.
//
// Field lines are kept as one slice of bytes, each line checked and with its CRLF, whatever framing
// they came in. Slices of a head lie in the input or in a scratch buffer, and are valid only until the
// handler that read them returns.
package message
