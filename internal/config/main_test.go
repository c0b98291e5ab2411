package config

import (
	"errors"
	"flag"
	"io/fs"
	"net/netip"
	"os/user"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"reuseportd/internal/sandbox"
)

var update = flag.Bool("update", false, "write what is got into testdata")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// parseOn parses as Parse does, on a machine of the test's own.
func parseOn(h *host, text string) (*Config, error) { return parse("web.yaml", []byte(text), h) }

// testHost is a machine that is the same wherever the tests run: root, with
// the loopback addresses, /run, /srv/www, a file /srv/file, user and group www.
func testHost() *host {
	lookup := func(path string) (fs.FileInfo, error) {
		switch path {
		case "/run", "/srv", "/srv/www", "/srv/locked", "/srv/index", "/srv/hung", "/var/log":
			return fileInfo{fs.ModeDir}, nil
		case "/srv/file":
			return fileInfo{0}, nil
		case "/run/old.sock":
			return fileInfo{fs.ModeSocket}, nil
		case "/srv/secret":
			return nil, &fs.PathError{Op: "stat", Path: path, Err: unix.EACCES}
		}
		return nil, &fs.PathError{Op: "stat", Path: path, Err: fs.ErrNotExist}
	}
	www := &user.User{Username: "www", Uid: "33", Gid: "33"}
	none := errors.New("unknown")
	return &host{
		euid: 0, stat: lookup, lstat: lookup,
		lowPort: func() int { return 1 }, cpus: func() []int { return []int{0, 1, 2, 3, 6} },
		bindable: func(ip netip.Addr) error {
			if ip.IsLoopback() || ip.IsUnspecified() {
				return nil
			}
			return unix.EADDRNOTAVAIL
		},
		lookupUser: func(name string) (*user.User, error) {
			if name == "www" {
				return www, nil
			}
			return nil, none
		},
		lookupID: func(uid string) (*user.User, error) {
			if uid == "33" {
				return www, nil
			}
			return nil, none
		},
		lookupGroup: func(name string) (*user.Group, error) {
			if name == "www" {
				return &user.Group{Gid: "34", Name: "www"}, nil
			}
			return nil, none
		},
		groupIDs: func(*user.User) ([]string, error) { return []string{"33", "4"}, nil },
		access: func(u *sandbox.User, path string, _ uint32) error {
			switch {
			case u.UID == 0:
			case path == "/srv/locked", path == "/srv/index/index.html", path == "/run/locked.sock":
				return &fs.PathError{Op: "access", Path: path, Err: unix.EACCES}
			case path == "/srv/hung":
				return sandbox.ErrNoAnswer
			case path == "/run/none.sock":
				return &fs.PathError{Op: "access", Path: path, Err: unix.ENOENT}
			}
			return nil
		},
	}
}

// fileInfo is a file of which only the type matters.
type fileInfo struct{ mode fs.FileMode }

func (fileInfo) Name() string        { return "" }
func (fileInfo) Size() int64         { return 0 }
func (i fileInfo) Mode() fs.FileMode { return i.mode }
func (fileInfo) ModTime() time.Time  { return time.Time{} }
func (i fileInfo) IsDir() bool       { return i.mode.IsDir() }
func (fileInfo) Sys() any            { return nil }
