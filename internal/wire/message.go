package wire

import (
	"encoding/json"
	"fmt"

	"golang.org/x/sys/unix"
)

// Message is one received message. Its receiver owns the descriptors: it takes those it
// needs, then closes the rest by Close.
type Message struct {
	Version uint16
	Kind    Kind
	Body    json.RawMessage
	// FDs are close-on-exec. Invariant: an element is -1 once it has been taken or closed,
	// so that Close can be called at any time and twice.
	FDs []int
}

// Decode unmarshals the body into v. Fields that v doesn't have are skipped,
// as they may come from a newer release.
func (m Message) Decode(v any) error {
	if err := json.Unmarshal(m.Body, v); err != nil {
		return fmt.Errorf("decode %s: %w", m.Kind, err)
	}
	return nil
}

// Take returns the descriptor i, which is then the caller's, or -1 if there is none or it
// was taken before.
func (m Message) Take(i int) int {
	if i < 0 || i >= len(m.FDs) {
		return -1
	}
	fd := m.FDs[i]
	m.FDs[i] = -1
	return fd
}

// Close closes the descriptors that were not taken.
func (m Message) Close() {
	closeFDs(m.FDs)
}

func closeFDs(fds []int) {
	for i, fd := range fds {
		if fd >= 0 {
			_ = unix.Close(fd)
			fds[i] = -1
		}
	}
}
