//go:build cgo

package sandbox

// linked are the rules that a binary needs for the way it was linked: shared libraries, whose
// own loader reads them.
var linked = map[string]uint64{
	"/lib": reading | execute, "/lib64": reading | execute, "/usr/lib": reading | execute, "/usr/lib64": reading | execute,
	"/usr/local/lib":   reading | execute,
	"/etc/ld.so.cache": readFile, "/etc/ld.so.preload": readFile,
}

// static says that no code is loaded after the start.
const static = false
