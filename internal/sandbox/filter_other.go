//go:build !amd64 && !arm64

package sandbox

import "errors"

// Filter returns an error: there is no list of system calls for this architecture.
func Filter() error {
	return errors.New("the filter of system calls isn't made for this architecture: say `sandbox: {seccomp: false}`")
}
