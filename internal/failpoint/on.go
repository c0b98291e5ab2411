//go:build failpoint

package failpoint

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Enabled reports whether this binary has failpoints.
const Enabled = true

var dir = os.Getenv("REUSEPORTD_FAILPOINT_DIR")

// Dir returns the directory of the failpoints. A process that reaches one writes to it.
func Dir() string { return dir }

// Env are prefixes of the environment variables that failpoints need in each process of
// the service.
var Env = []string{"REUSEPORTD_"}

// errno returns the errno of a name.
func errno(name string) error {
	for _, e := range []syscall.Errno{syscall.EAGAIN, syscall.ENOMEM, syscall.EMFILE, syscall.ENFILE, syscall.ENOSPC} {
		if unix.ErrnoName(e) == name {
			return e
		}
	}
	panic("failpoint: unknown errno " + name)
}

// Hit acts on the failpoint called name if a test has armed it. It returns an error only
// for the actions `error` and `errno`.
func Hit(name string) error {
	if dir == "" {
		return nil
	}
	armed := filepath.Join(dir, name)
	text, err := os.ReadFile(armed)
	if err != nil {
		return nil
	}
	hit := fmt.Sprintf("%s.hit.%d", armed, os.Getpid())
	if err := os.WriteFile(hit, nil, 0o644); err != nil {
		panic("failpoint " + name + ": " + err.Error())
	}
	switch action := strings.TrimSpace(string(text)); action {
	case "pause":
		for {
			if _, err := os.Stat(armed); err != nil {
				return nil
			}
			time.Sleep(5 * time.Millisecond)
		}
	case "kill":
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	case "exit":
		os.Exit(3)
	case "panic":
		panic("failpoint " + name)
	case "error":
		return fmt.Errorf("failpoint %s", name)
	default:
		if name, ok := strings.CutPrefix(action, "errno "); ok {
			return errno(name)
		}
		if what, ok := strings.CutPrefix(action, "try "); ok {
			result := []byte(outcome(attempt(what)) + "\n") // the line feed shows that it is complete
			if err := os.WriteFile(fmt.Sprintf("%s.tried.%d", armed, os.Getpid()), result, 0o644); err != nil {
				panic("failpoint " + name + ": " + err.Error())
			}
			return nil
		}
		panic("failpoint " + name + ": unknown action " + action)
	}
	return nil
}
