package material

import "crypto/rand"

// ticketKeys is how many keys of tickets there are: the newest makes tickets, the others still open those of before.
const ticketKeys = 3

// NewTickets returns keys of TLS' tickets, the newest first: a new one, and the newest of those there were. The others
// are wiped.
func NewTickets(old [][]byte) [][]byte {
	key := make([]byte, 32)
	_, _ = rand.Read(key) // which never fails
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

// IsTickets reports whether these can be keys of tickets.
func IsTickets(keys [][]byte) bool {
	for _, k := range keys {
		if len(k) != 32 {
			return false
		}
	}
	return len(keys) > 0 && len(keys) <= ticketKeys
}
