package main

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// runtimeDir returns the runtime directory for this user, where none is named.
func runtimeDir() (string, error) {
	if dir := os.Getenv("RUNTIME_DIRECTORY"); dir != "" {
		return dir, nil // systemd.exec(5)
	}
	if os.Geteuid() == 0 {
		return "/run/reuseportd", nil
	}
	if dir := os.Getenv("XDG_RUNTIME_DIR"); dir != "" {
		return filepath.Join(dir, "reuseportd"), nil
	}
	dir := fmt.Sprintf("/tmp/reuseportd-%d", os.Geteuid())
	return dir, private(dir)
}

// private makes a directory in a place that everybody can write to, or insists
// that it is this user's and closed to others.
func private(dir string) error {
	if err := os.Mkdir(dir, 0o700); err == nil || !os.IsExist(err) {
		return err
	}
	var st unix.Stat_t
	if err := unix.Lstat(dir, &st); err != nil {
		return fmt.Errorf("runtime directory: %w", err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR || st.Uid != uint32(os.Geteuid()) || st.Mode&0o077 != 0 {
		return fmt.Errorf("runtime directory %s is not a directory of yours with mode 0700; name another with --runtime-dir", dir)
	}
	return nil
}
