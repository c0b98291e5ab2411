package meter

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// raiseLimit makes sure that the process may have n connections and some descriptors more
// (setrlimit(2), RLIMIT_NOFILE).
func raiseLimit(n int) error {
	const others = 500
	need := uint64(n + others)
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		return os.NewSyscallError("getrlimit", err)
	}
	if l.Cur >= need {
		return nil
	}
	if l.Max < need {
		return fmt.Errorf("they need %d descriptors, this process may have %d (ulimit -Hn)", need, l.Max)
	}
	l.Cur = need
	return os.NewSyscallError("setrlimit", unix.Setrlimit(unix.RLIMIT_NOFILE, &l))
}
