// Package material is the files that a configuration names and whose contents are used: pages, certificates and
// others. A configuration never changes; these files may, and their contents are replaced without a new
// generation.
//
// The master reads and checks them (Want.Load), numbers valid contents (Store), and sends them to its workers in sealed
// memory (Set). A worker never opens such a file. Invalid contents are reported and change nothing: the previous ones
// stay in use. The package owns the kinds of materials and their checks. It must never know a process, a configuration
// or a log.
package material

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"reuseportd/internal/sandbox"
	"reuseportd/internal/tls/certs"
)

// Kind is what a material is for.
type Kind string

const (
	Page        Kind = "page"        // the content of an answer
	Certificate Kind = "certificate" // a chain, then its key
	Authorities Kind = "authorities" // certificates that sign those of clients or servers
	Tickets     Kind = "tickets"     // keys of TLS tickets, which are in no file: NewTickets
	TicketKeys  Kind = "ticket_keys" // the same in files, for a fleet: TicketKeysOf
)

// kinds describes each kind. A new one is a line here.
var kinds = map[Kind]struct {
	limit int // bytes of each file
	// secret is the number, from 1 on, of the first file that only its owner and group may be able to read;
	// 0: none.
	secret int
	// public content is opened as the workers' user: otherwise a link in its place could make the server send out
	// any file that the master can read.
	public bool
	check  func(files [][]byte) error // nil accepts any content
}{
	Page:        {limit: 1 << 20, public: true},
	Certificate: {limit: 256 << 10, secret: 2, check: checkCertificate},
	Authorities: {limit: 1 << 20, check: checkAuthorities},
	Tickets:     {},
	TicketKeys:  {limit: 4 << 10, secret: 1, check: checkTicketKeys},
}

func checkCertificate(files [][]byte) error {
	_, err := certs.Parse(files[0], files[1], time.Now())
	return err
}

func checkAuthorities(files [][]byte) error {
	_, err := certs.ParseAuthorities(files[0])
	return err
}

// expiry returns when a certificate expires, the zero time for other materials.
func expiry(w Want, files [][]byte) time.Time {
	if w.Kind != Certificate {
		return time.Time{}
	}
	c, _ := certs.Parse(files[0], files[1], time.Now())
	if c == nil {
		return time.Time{}
	}
	return c.Leaf.NotAfter
}

// System stands for the file of the system's authorities among the paths of a Want.
const System = "the system's certificate authorities"

// systemAuthorities returns that file: as crypto/x509 looks for it, Debian's if there is none.
func systemAuthorities() string {
	if path := os.Getenv("SSL_CERT_FILE"); path != "" {
		return path
	}
	const debian = "/etc/ssl/certs/ca-certificates.crt"
	for _, path := range []string{debian, "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem", "/etc/ssl/cert.pem"} {
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	return debian
}

// Want names the files of one material. They are read and replaced together.
type Want struct {
	Kind  Kind
	Paths []string
}

// Read is the result of reading a material.
type Read struct {
	Want
	Files [][]byte
	Notes []string // remarks that are no reason to refuse it
	Err   error
}

// Stale reports whether the only problem is that a certificate has expired.
func (r *Read) Stale() bool {
	var e *certs.Expired
	return r.Files != nil && errors.As(r.Err, &e)
}

// Key tells a material from all others of a service.
func (w Want) Key() string { return string(w.Kind) + ":" + strings.Join(w.Paths, "\x00") }

// Load reads and checks the files. If only the check fails it returns their contents as well. u is the user as whom public
// ones are opened, nil for this process's. It waits for the file system, so never call it where others wait.
func (w Want) Load(u *sandbox.User) (r Read) {
	r.Want = w
	kind, known := kinds[w.Kind]
	if !known {
		r.Err = fmt.Errorf("no material is of the kind %q", w.Kind)
		return r
	}
	if !kind.public {
		u = nil
	}
	var files [][]byte
	for i, path := range w.Paths {
		if path == System {
			path = systemAuthorities()
		}
		data, mode, err := read(path, u, kind.limit)
		if err != nil {
			r.Err = err
			return r
		}
		if kind.secret > 0 && i+1 >= kind.secret && mode&0o004 != 0 {
			r.Notes = append(r.Notes, fmt.Sprintf("%s can be read by everybody on this machine: chmod o-r it", path))
		}
		files = append(files, data)
	}
	r.Files = files
	if kind.check != nil {
		if err := kind.check(files); err != nil {
			r.Err = fmt.Errorf("%s: %w", strings.Join(w.Paths, " and "), err)
		}
	}
	return r
}

// read returns the content of a regular file. It doesn't wait for the other end of a FIFO.
func read(path string, u *sandbox.User, limit int) (data []byte, mode uint32, err error) {
	fd, err := sandbox.AsUser(u, func() (int, error) {
		return unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	}, func(fd int) { _ = unix.Close(fd) })
	if err != nil {
		if errors.Is(err, unix.EACCES) && u != nil {
			err = fmt.Errorf("%w to the workers' user (uid %d), whom it is served by", err, u.UID)
		}
		return nil, 0, &os.PathError{Op: "open", Path: path, Err: err}
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, 0, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		return nil, 0, fmt.Errorf("%s is not a regular file", path)
	case st.Size > int64(limit):
		return nil, 0, tooLong(path, limit)
	}
	data, err = io.ReadAll(io.LimitReader(f, int64(limit)+1))
	switch {
	case err != nil:
		return nil, 0, err
	case len(data) > limit:
		return nil, 0, tooLong(path, limit)
	}
	return data, st.Mode, nil
}

func tooLong(path string, limit int) error {
	return fmt.Errorf("%s has more than %d KiB, which is the most", path, limit>>10)
}

// Sum returns a hash of contents, in hex.
func Sum(files [][]byte) string {
	h := sha256.New()
	for _, f := range files {
		one := sha256.Sum256(f)
		h.Write(one[:])
	}
	return hex.EncodeToString(h.Sum(nil))
}
