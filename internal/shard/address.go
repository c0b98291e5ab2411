package shard

import (
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// address is what a group's sockets are bound to.
type address struct {
	key     string // config.Listener.Key
	network string // tcp4, tcp6 or unix
	tcp     netip.AddrPort
	path    string      // of a Unix socket
	mode    fs.FileMode // the path's permissions
	// dev and ino tell the path's file from one that another program puts
	// there later.
	dev, ino uint64
}

// parseKey reads config.Listener.Key: "tcp4!127.0.0.1:80", "tcp6![::1]:80" or
// "unix!/path".
func parseKey(key string) (address, error) {
	network, text, ok := strings.Cut(key, "!")
	a := address{key: key, network: network}
	if !ok {
		return a, fmt.Errorf("address %q has no network", key)
	}
	switch network {
	case "unix":
		a.path = text
		// sun_path holds 108 bytes with the terminating zero, unix(7).
		if text == "" || len(text) > 107 {
			return a, fmt.Errorf("unix socket path %q: %d bytes, want 1 to 107", text, len(text))
		}
		return a, nil
	case "tcp4", "tcp6":
		ap, err := netip.ParseAddrPort(text)
		if err != nil {
			return a, fmt.Errorf("address %q: %w", text, err)
		}
		if ap.Addr().Is4() != (network == "tcp4") {
			return a, fmt.Errorf("address %q is not %s", text, network)
		}
		a.tcp = ap
		return a, nil
	}
	return a, fmt.Errorf("address %q: unknown network %q", key, network)
}

func (a *address) unix() bool { return a.network == "unix" }

// String returns the address as the configuration has it.
func (a *address) String() string {
	_, text, _ := strings.Cut(a.key, "!")
	return text
}

func (a *address) family() int {
	switch a.network {
	case "tcp4":
		return unix.AF_INET
	case "tcp6":
		return unix.AF_INET6
	}
	return unix.AF_UNIX
}

func (a *address) sockaddr() (unix.Sockaddr, error) {
	switch a.network {
	case "tcp4":
		return &unix.SockaddrInet4{Port: int(a.tcp.Port()), Addr: a.tcp.Addr().As4()}, nil
	case "tcp6":
		zone, err := zoneIndex(a.tcp.Addr().Zone())
		if err != nil {
			return nil, err
		}
		return &unix.SockaddrInet6{Port: int(a.tcp.Port()), Addr: a.tcp.Addr().As16(), ZoneId: zone}, nil
	}
	return &unix.SockaddrUnix{Name: a.path}, nil
}

// zoneIndex returns the index of the interface in a link-local address such as
// fe80::1%eth0.
func zoneIndex(zone string) (uint32, error) {
	if zone == "" {
		return 0, nil
	}
	if n, err := strconv.ParseUint(zone, 10, 32); err == nil {
		return uint32(n), nil
	}
	ifi, err := net.InterfaceByName(zone)
	if err != nil {
		return 0, fmt.Errorf("zone %s: %w", zone, err)
	}
	return uint32(ifi.Index), nil
}
