//go:build race

package harness

// Raced reports whether test and server are under the race detector.
const Raced = true
