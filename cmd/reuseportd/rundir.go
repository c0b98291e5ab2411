package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// runtimeDir returns the default runtime directory for this user. It creates nothing.
func runtimeDir() (string, error) {
	if dirs := os.Getenv("RUNTIME_DIRECTORY"); dirs != "" {
		dir, _, _ := strings.Cut(dirs, ":") // one for each name in the unit: systemd.exec(5)
		return dir, nil
	}
	if os.Geteuid() == 0 {
		return "/run/reuseportd", nil
	}
	if dir := os.Getenv("XDG_RUNTIME_DIR"); dir != "" {
		return filepath.Join(dir, "reuseportd"), nil
	}
	// The last resort, in a place where everybody can write: rundir.Open checks the owner.
	return fmt.Sprintf("/tmp/reuseportd-%d", os.Geteuid()), nil
}
