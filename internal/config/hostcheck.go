package config

import (
	"errors"
	"io/fs"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// checkAddress returns why this machine can't bind an address, as far as that
// shows without binding it; nil if nothing is wrong.
func (h *host) checkAddress(a address) *flaw {
	if a.network == "unix" {
		return h.checkUnix(a.canonical)
	}
	ip := a.ip.Addr()
	switch err := h.bindable(ip); {
	case err == nil:
	case errors.Is(err, unix.EADDRNOTAVAIL):
		return &flaw{
			"no interface of this machine has the address " + ip.String(),
			"write an address that `ip address` shows, or 0.0.0.0 or [::] for all of them",
		}
	case errors.Is(err, unix.EAFNOSUPPORT):
		return &flaw{"this machine has IPv6 turned off", "write an IPv4 address"}
	default:
		return &flaw{"the address " + ip.String() + " can't be bound: " + err.Error(), ""}
	}
	if low := h.lowPort(); int(a.ip.Port()) < low {
		return &flaw{
			"port " + strconv.Itoa(int(a.ip.Port())) + " is privileged: this user may bind " + strconv.Itoa(low) + " and above",
			"run as root, give the binary CAP_NET_BIND_SERVICE, or choose a higher port",
		}
	}
	return nil
}

func (h *host) checkUnix(path string) *flaw {
	if bad := h.checkDir(filepath.Dir(path), "the directory of the socket"); bad != nil {
		return bad
	}
	info, err := h.lstat(path)
	if err == nil && info.Mode().Type() != fs.ModeSocket {
		return &flaw{path + " exists and is not a socket", "remove it or choose another path"}
	}
	return nil
}

// checkDir wants an existing directory; what names it in messages.
func (h *host) checkDir(path, what string) *flaw {
	info, err := h.stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return &flaw{what + ", " + path + ", doesn't exist", "create it or correct the path"}
	case err != nil:
		return &flaw{what + " can't be looked at: " + err.Error(), "let this user see it or correct the path"}
	case !info.IsDir():
		return &flaw{what + ", " + path + ", is not a directory", "name a directory"}
	}
	return nil
}
