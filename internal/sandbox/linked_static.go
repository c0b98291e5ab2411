//go:build !cgo

package sandbox

// linked are the rules that a binary needs for the way it was linked: none, it is one file.
var linked map[string]uint64

// static says that no code is loaded after the start.
const static = true
