package stream

// Kind numbers the form in which an element of a connection goes to another process: a responder, or what
// stands between one and its stream.
//
// A number is given once and never used for anything else; a form that changes gets a new one. A release
// refuses a connection with an element of a number that it doesn't know: that connection stays where it
// is, and drains.
type Kind uint16

// The kinds that there are. Append only.
const (
	KindParts  Kind = 1 // files.Parts
	KindRelay  Kind = 2 // proxy.Relay
	KindTunnel Kind = 3 // proxy.Tunnel
)
