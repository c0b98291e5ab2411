package config

import (
	"io/fs"
	"net"
	"net/netip"
	"os"
	"os/user"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"reuseportd/internal/sandbox"
)

// host is the machine that a configuration is checked against. Tests put
// another in its place.
type host struct {
	euid     int
	stat     func(path string) (fs.FileInfo, error) // follows symlinks
	lstat    func(path string) (fs.FileInfo, error)
	bindable func(ip netip.Addr) error
	// lowPort is the least port that this process may bind.
	lowPort func() int
	// cpus are those that this process may use.
	cpus func() []int

	lookupUser  func(name string) (*user.User, error)
	lookupID    func(uid string) (*user.User, error)
	lookupGroup func(name string) (*user.Group, error)
	groupIDs    func(u *user.User) ([]string, error)

	// access is access(2) as a user, nil for this process's; nil where it is not to be tried.
	access func(u *sandbox.User, path string, mode uint32) error
}

func thisHost() *host {
	return &host{
		euid: os.Geteuid(), stat: os.Stat, lstat: os.Lstat,
		bindable: probeIP, lowPort: lowPort, cpus: affinity,
		lookupUser: user.Lookup, lookupID: user.LookupId, lookupGroup: user.LookupGroup,
		groupIDs: func(u *user.User) ([]string, error) { return u.GroupIds() },
		access:   sandbox.Access,
	}
}

// probeIP asks the kernel whether an address is this machine's, by binding a
// datagram socket to a port of the kernel's choice. That minds
// ip_nonlocal_bind and disabled IPv6, and no TCP client can ever notice it.
func probeIP(ip netip.Addr) error {
	domain, sa := unix.AF_INET, unix.Sockaddr(nil)
	if ip.Is4() {
		sa = &unix.SockaddrInet4{Addr: ip.As4()}
	} else {
		zone, err := zoneIndex(ip.Zone())
		if err != nil {
			return err
		}
		domain, sa = unix.AF_INET6, &unix.SockaddrInet6{Addr: ip.As16(), ZoneId: zone}
	}
	fd, err := unix.Socket(domain, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if ip.Is6() {
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1); err != nil {
			return err
		}
	}
	return unix.Bind(fd, sa)
}

// lowPort is 1 for who may bind privileged ports, and
// net.ipv4.ip_unprivileged_port_start for everybody else (ip(7)).
func lowPort() int {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if unix.Capget(&hdr, &data[0]) == nil && data[0].Effective&(1<<unix.CAP_NET_BIND_SERVICE) != 0 {
		return 1
	}
	raw, err := os.ReadFile("/proc/sys/net/ipv4/ip_unprivileged_port_start")
	if err != nil {
		return 1024
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(raw)))
	if err != nil {
		return 1024
	}
	return n
}

// zoneIndex returns the number of the interface that a zone names.
func zoneIndex(zone string) (uint32, error) {
	if zone == "" {
		return 0, nil
	}
	i, err := net.InterfaceByName(zone)
	if err != nil {
		return 0, err
	}
	return uint32(i.Index), nil
}
