package material

import (
	"crypto/rand"
	"crypto/sha256"
	"fmt"
)

// ticketKeys is how many ticket keys there are: the newest makes tickets, the others still open earlier tickets.
const ticketKeys = 3

// NewTickets returns keys of TLS tickets, newest first: a new one, and the newest of old. The rest of old is
// overwritten.
func NewTickets(old [][]byte) [][]byte {
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails
	keys := [][]byte{key}
	for i, k := range old {
		if len(keys) < ticketKeys {
			keys = append(keys, k)
		} else {
			clear(old[i])
		}
	}
	return keys
}

// IsTickets reports whether these can be ticket keys.
func IsTickets(keys [][]byte) bool {
	for _, k := range keys {
		if len(k) != 32 {
			return false
		}
	}
	return len(keys) > 0 && len(keys) <= ticketKeys
}

// TicketKeysOf returns the ticket keys that files hold, in their order. The whole file counts: servers with the same files open each
// other's tickets.
func TicketKeysOf(files [][]byte) (keys [][]byte) {
	for _, f := range files {
		sum := sha256.Sum256(f)
		keys = append(keys, sum[:])
	}
	return keys
}

// checkTicketKeys insists on what nginx takes as well: 48 or 80 random bytes.
func checkTicketKeys(files [][]byte) error {
	for i, f := range files {
		if len(f) != 48 && len(f) != 80 {
			return fmt.Errorf("file %d has %d bytes: a key of tickets has 48 or 80 random ones, as `openssl rand 80` makes them", i+1, len(f))
		}
	}
	return nil
}
