package material

import "crypto/rand"

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
