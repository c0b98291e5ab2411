package config

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"golang.org/x/sys/unix"

	"reuseportd/internal/sandbox"
)

// reach tries each root and each Unix socket as the workers' user, whom the master is not: what a
// worker can't reach would be answered with 403 or 502, with no word to the operator.
func (d *decoder) reach(c *Config) {
	if d.host == nil || d.host.access == nil || c.Credential == nil || d.rep.Bad() {
		return
	}
	t := &trial{d: d, who: c.Credential, user: c.Credential.SandboxUser(), tried: make(map[string]bool)}
	for i := range c.Listeners {
		h := c.Listeners[i].HTTP
		if h == nil {
			continue
		}
		for j := range h.Routes {
			if f := h.Routes[j].Files; f != nil {
				t.root(f)
			}
		}
	}
	for i := range c.Upstreams {
		for j := range c.Upstreams[i].Servers {
			if s := &c.Upstreams[i].Servers[j]; s.Network == "unix" {
				t.socket(s)
			}
		}
	}
}

// trial tries the paths that one configuration names.
type trial struct {
	d     *decoder
	who   *Credential
	user  *sandbox.User
	tried map[string]bool
	hung  bool // a file system has not answered: no more is asked
}

// try asks once for each path. After a file system that doesn't answer the rest goes untried: the master waits for
// one only.
func (t *trial) try(path string, mode uint32, pos Position) error {
	if t.hung || t.tried[path] {
		return nil
	}
	t.tried[path] = true
	err := t.d.host.access(t.user, path, mode)
	if errors.Is(err, sandbox.ErrNoAnswer) {
		t.hung = true
		t.d.rep.Warn(pos, "", fmt.Sprintf("whether %s can reach %s is not known, nor what comes after it: %v", t.who.User, path, err))
		return nil
	}
	return err
}

func (t *trial) root(f *Files) {
	if err := t.try(f.Root, unix.X_OK, f.RootPos); err != nil {
		t.refuse(f.RootPos, "the root "+f.Root, err)
		return
	}
	// The index shows whether files can be read, not only found.
	if err := t.try(filepath.Join(f.Root, f.Index), unix.R_OK, f.RootPos); err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.refuse(f.RootPos, "the file "+filepath.Join(f.Root, f.Index), err)
	}
}

func (t *trial) socket(s *Server) {
	switch err := t.try(s.Address, unix.W_OK, s.Pos); {
	case err == nil:
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENOTDIR):
		t.d.rep.Warn(s.Pos, "start the server", s.Address+" is not there yet")
	default:
		t.refuse(s.Pos, "the socket "+s.Address, err)
	}
}

// refuse reports what a worker can't reach, and what to do.
func (t *trial) refuse(pos Position, what string, err error) {
	var path *fs.PathError
	if errors.As(err, &path) {
		err = path.Err
	}
	hint := "let that user reach it, or name another one with user:"
	if t.who.Default {
		hint = "let that user reach it, or name one that does with user:; `user: root` is what earlier releases did without the key"
	}
	t.d.rep.Add(pos, hint, "workers, which run as %s, can't reach %s: %v", t.who, what, err)
}
