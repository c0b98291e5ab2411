package upstream

import "golang.org/x/sys/unix"

// Reason is why an attempt failed. The numbers are stored on the Board: new ones are
// appended.
type Reason uint8

const (
	Other          Reason = iota // an error of another kind
	Refused                      // nobody listens there
	ConnectTimeout               // no connection in time
	Unreachable                  // no route, or the network is down
	Reset                        // the server reset the connection
	ClosedEarly                  // the server closed before it had answered in full
	Malformed                    // its answer is malformed
	AnswerTimeout                // connected, but no answer in time
	NoSocket                     // no Unix socket of that path
	QueueFull                    // the Unix socket's queue of connections is full
	Denied                       // not allowed for this user, or by this machine's firewall
	NoDescriptors                // no descriptor or memory here
	NoPorts                      // no local port left here
	NoTrust                      // no TLS with it: it is not who it should be, or speaks none
)

// Reasons is the number of reasons.
const Reasons = int(NoTrust) + 1

// maxReasons is how many reasons a Board has room for.
const maxReasons = 16

var reasonTexts = [Reasons]string{
	Other: "failed", Refused: "connection refused", ConnectTimeout: "connect timed out",
	Unreachable: "unreachable", Reset: "connection reset", ClosedEarly: "closed early",
	Malformed: "malformed answer", AnswerTimeout: "no answer in time", NoSocket: "no such socket",
	QueueFull: "queue full", Denied: "permission denied",
	NoDescriptors: "no descriptors or memory here", NoPorts: "no local ports left", NoTrust: "TLS failed",
}

// String returns the reason in a few words, the same in logs and status.
func (r Reason) String() string {
	if int(r) >= Reasons {
		return reasonTexts[Other]
	}
	return reasonTexts[r]
}

// Local reports whether the cause is on this machine: such a failure doesn't eject the
// server.
func (r Reason) Local() bool { return r == NoDescriptors || r == NoPorts }

// ReasonOf returns what an errno of connect(2), read or write says about the server.
func ReasonOf(errno unix.Errno) Reason {
	switch errno {
	case unix.ECONNREFUSED:
		return Refused
	case unix.ETIMEDOUT:
		return ConnectTimeout
	case unix.EHOSTUNREACH, unix.ENETUNREACH, unix.EHOSTDOWN, unix.ENETDOWN:
		return Unreachable
	case unix.ECONNRESET, unix.ECONNABORTED, unix.EPIPE:
		return Reset
	case unix.ENOENT, unix.ENOTDIR, unix.ENOTSOCK:
		return NoSocket
	case unix.EAGAIN: // unix(7); TCP says EADDRNOTAVAIL when it has no port
		return QueueFull
	case unix.EACCES, unix.EPERM:
		return Denied
	case unix.EMFILE, unix.ENFILE, unix.ENOMEM, unix.ENOBUFS:
		return NoDescriptors
	case unix.EADDRNOTAVAIL, unix.EADDRINUSE:
		return NoPorts
	case unix.EPROTO: // of an event loop's transport
		return NoTrust
	}
	return Other
}
