package stream

// Kind numbers the form in which an element of a connection goes to another process: a responder, or an
// element between one and its stream.
//
// A number is given once and never used for anything else; a form that changes gets a new one. A release
// refuses a connection that has an element with an unknown number: that connection stays in its worker,
// which drains.
type Kind uint16

// All kinds. Append only.
const (
	KindParts  Kind = 1 // files.Parts
	KindRelay  Kind = 2 // proxy.Relay
	KindTunnel Kind = 3 // proxy.Tunnel
)
