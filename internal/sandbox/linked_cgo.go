//go:build cgo

package sandbox

// linked are the files that a dynamically linked binary needs: shared libraries, which the
// loader reads.
var linked = map[string]uint64{
	"/lib": reading | execute, "/lib64": reading | execute, "/usr/lib": reading | execute, "/usr/lib64": reading | execute,
	"/usr/local/lib":   reading | execute,
	"/etc/ld.so.cache": readFile, "/etc/ld.so.preload": readFile,
}

// static says whether no code is loaded after the start.
const static = false
