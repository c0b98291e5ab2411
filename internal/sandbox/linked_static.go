//go:build !cgo

package sandbox

// linked are the files that a statically linked binary needs: none.
var linked map[string]uint64

// static says whether no code is loaded after the start.
const static = true
