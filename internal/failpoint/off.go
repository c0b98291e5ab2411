//go:build !failpoint

package failpoint

// Enabled tells whether this binary has failpoints.
const Enabled = false

// Hit does nothing in a binary without failpoints.
func Hit(string) error { return nil }

// Dir is the directory of the failpoints: there are none.
func Dir() string { return "" }

// Env is how the names of variables begin that each process of the service needs for this.
var Env []string
