package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// runtimeDir returns the runtime directory for this user, where none is named.
// It makes nothing.
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
	dir := sharedDir()
	if err := private(dir, os.Geteuid()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	return dir, nil
}

// sharedDir is the last resort, in a place that everybody can write to.
func sharedDir() string { return fmt.Sprintf("/tmp/reuseportd-%d", os.Geteuid()) }

// makePrivate makes dir for uid, or insists that it is uid's already.
func makePrivate(dir string, uid int) error {
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("runtime directory: %w", err)
	}
	return private(dir, uid)
}

// private insists that dir is uid's and closed to others: somebody else may have
// made it, to be taken for the master or for its clients.
func private(dir string, uid int) error {
	var st unix.Stat_t
	if err := unix.Lstat(dir, &st); err != nil {
		return fmt.Errorf("runtime directory %s: %w", dir, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR || st.Uid != uint32(uid) || st.Mode&0o077 != 0 {
		return fmt.Errorf("runtime directory %s is not a directory of yours with mode 0700; name another with --runtime-dir", dir)
	}
	return nil
}
