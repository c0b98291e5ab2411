package main

import (
	"crypto/rand"
	"os"
	"path/filepath"
)

// files are the files that the static load requests, with their sizes.
var files = []struct {
	name, size string
	bytes      int
}{
	{"4k", "4 KiB", 4 << 10},
	{"1m", "1 MiB", 1 << 20},
}

// newSite makes a directory with them, of random content.
func newSite(dir string) (string, error) {
	if err := os.Chmod(dir, 0o755); err != nil { // workers are another user
		return "", err
	}
	dir = filepath.Join(dir, "site")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return "", err
	}
	for _, f := range files {
		data := make([]byte, f.bytes)
		_, _ = rand.Read(data)
		if err := os.WriteFile(filepath.Join(dir, f.name), data, 0o644); err != nil {
			return "", err
		}
	}
	return dir, writePair(dir)
}
