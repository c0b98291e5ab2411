//go:build !failpoint

package failpoint

// Enabled tells whether this binary has failpoints.
const Enabled = false

// Hit does nothing in a binary without failpoints.
func Hit(string) error { return nil }
