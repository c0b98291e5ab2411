package wire

import (
	"errors"
	"fmt"
)

var (
	// ErrMalformed is a datagram that is no message of any version.
	ErrMalformed = errors.New("malformed message")
	// ErrTruncated is a message of which the kernel has withheld bytes (MSG_TRUNC) or
	// descriptors (MSG_CTRUNC: most likely this process has reached RLIMIT_NOFILE).
	ErrTruncated = errors.New("truncated message")
	// ErrGone is returned by Send when the peer has closed its end.
	ErrGone = errors.New("peer is gone")
	// ErrTooLarge is returned by Send for a body or a number of descriptors
	// beyond MaxBody and MaxFDs; nothing was sent.
	ErrTooLarge = errors.New("message too large")
)

// VersionError is a message of a protocol newer than this release's. The channel can
// still be used: answer KindUnknown and go on, or give up.
type VersionError struct {
	Version uint16
	Kind    Kind
}

func (e *VersionError) Error() string {
	return fmt.Sprintf("%s of protocol version %d, this release knows %d", e.Kind, e.Version, Version)
}

// KindError is a message of a kind that this release doesn't know. The channel can still
// be used: answer KindUnknown and go on.
type KindError struct{ Kind Kind }

func (e *KindError) Error() string { return fmt.Sprintf("unknown message: %s", e.Kind) }

// IsUnknown reports whether an error of Recv should be answered by KindUnknown, and
// returns the body to send.
func IsUnknown(err error) (Unknown, bool) {
	var v *VersionError
	var k *KindError
	switch {
	case errors.As(err, &v):
		return Unknown{Version: v.Version, Kind: v.Kind}, true
	case errors.As(err, &k):
		return Unknown{Version: Version, Kind: k.Kind}, true
	}
	return Unknown{}, false
}
