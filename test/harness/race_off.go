//go:build !race

package harness

// Raced tells whether test and server are under the race detector.
const Raced = false
