//go:build race

package sandbox

// init allows what the race detector needs: it reads its memory map in /proc.
func init() { linked["/proc"] = reading }
