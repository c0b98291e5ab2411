// Package material is the files that a configuration names and whose contents serve: pages, and what else is read
// from files. The configuration never changes; these may, and are exchanged without a new generation.
//
// The master reads and checks them (Want.Load), numbers what is good (Store), and sends it to its workers in sealed
// memory (Set). A worker never opens such a file. What is bad is told of and changes nothing: what was there serves on.
// The package knows no process, no configuration and no log.
package material

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"reuseportd/internal/sandbox"
)

// Kind is what a material is for.
type Kind string

// Page is the content of an answer.
const Page Kind = "page"

// kinds says what each kind is made of. A new one is a line here.
var kinds = map[Kind]struct {
	limit int // bytes of each file
	// public content is opened as the workers' user, whom it is served by: else a link in its place could have any
	// file of the master's served.
	public bool
	check  func(files [][]byte) error // nil takes any content
}{
	Page: {limit: 1 << 20, public: true},
}

// Want names the files that are one material. They are read together and exchanged together.
type Want struct {
	Kind  Kind
	Paths []string
}

// Read is what reading a material has come to.
type Read struct {
	Want
	Files [][]byte
	Err   error
}

// Key tells a material from all others of a service.
func (w Want) Key() string { return string(w.Kind) + ":" + strings.Join(w.Paths, "\x00") }

// Load reads and checks the files. u is who public ones are opened as, nil for this process. It waits for the file
// system: never call it where others wait.
func (w Want) Load(u *sandbox.User) ([][]byte, error) {
	kind, known := kinds[w.Kind]
	if !known {
		return nil, fmt.Errorf("no material is of the kind %q", w.Kind)
	}
	if !kind.public {
		u = nil
	}
	files := make([][]byte, 0, len(w.Paths))
	for _, path := range w.Paths {
		data, err := read(path, u, kind.limit)
		if err != nil {
			return nil, err
		}
		files = append(files, data)
	}
	if kind.check != nil {
		if err := kind.check(files); err != nil {
			return nil, fmt.Errorf("%s: %w", strings.Join(w.Paths, " and "), err)
		}
	}
	return files, nil
}

// read returns the content of a regular file. It doesn't wait for the other end of a pipe.
func read(path string, u *sandbox.User, limit int) ([]byte, error) {
	fd, err := sandbox.AsUser(u, func() (int, error) {
		return unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	}, func(fd int) { _ = unix.Close(fd) })
	if err != nil {
		if errors.Is(err, unix.EACCES) && u != nil {
			err = fmt.Errorf("%w to the workers' user (uid %d), whom it is served by", err, u.UID)
		}
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		return nil, fmt.Errorf("%s is not a regular file", path)
	case st.Size > int64(limit):
		return nil, tooLong(path, limit)
	}
	data, err := io.ReadAll(io.LimitReader(f, int64(limit)+1))
	switch {
	case err != nil:
		return nil, err
	case len(data) > limit:
		return nil, tooLong(path, limit)
	}
	return data, nil
}

func tooLong(path string, limit int) error {
	return fmt.Errorf("%s has more than %d KiB, which is the most", path, limit>>10)
}

// sum is what tells contents apart.
func sum(files [][]byte) string {
	h := sha256.New()
	for _, f := range files {
		one := sha256.Sum256(f)
		h.Write(one[:])
	}
	return hex.EncodeToString(h.Sum(nil))
}
