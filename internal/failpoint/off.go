//go:build !failpoint

package failpoint

// Enabled reports whether this binary has failpoints.
const Enabled = false

// Hit does nothing in a binary without failpoints.
func Hit(string) error { return nil }

// Dir returns "": there are no failpoints.
func Dir() string { return "" }

// Env are prefixes of the environment variables that failpoints need in each process of
// the service.
var Env []string
