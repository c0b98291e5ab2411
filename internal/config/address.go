package config

import (
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"

	"reuseportd/internal/config/yaml"
)

// maxUnixPath is the longest path that fits sun_path with its NUL (unix(7)).
const maxUnixPath = 107

// address is a listener's or a server's address, taken apart.
type address struct {
	network   string // tcp4, tcp6 or unix
	canonical string
	ip        netip.AddrPort // not for unix
}

// flaw is what is wrong with a value, and what would be right.
type flaw struct{ message, hint string }

// readAddress reads and, given a machine, checks an address.
func readAddress(d *decoder, n *yaml.Node, l *Listener) {
	hint := `as in 127.0.0.1:8080, "[::1]:8080" or unix:/run/web.sock`
	switch {
	case n.Kind == yaml.Int:
		hint = "write 127.0.0.1:" + n.Text + ", or 0.0.0.0:" + n.Text + " for every IPv4 address"
	case n.Kind == yaml.Sequence:
		hint = `put an IPv6 address in quotes, as in "[::1]:8080"`
	}
	if n.Kind != yaml.Text {
		d.wrong(n, hint, "an IP address with its port, or unix: and a path")
		return
	}
	a, bad := parseAddress(n.Text)
	if bad == nil && d.host != nil {
		bad = d.host.checkAddress(a)
	}
	l.Network, l.Address, l.Pos = a.network, a.canonical, n.Pos
	if bad != nil {
		d.rep.Add(n.Pos, bad.hint, "%s", bad.message)
	}
}

// parseAddress takes an address apart without asking the machine anything.
func parseAddress(s string) (address, *flaw) {
	if rest, ok := strings.CutPrefix(s, "unix:"); ok {
		return parseUnix(rest)
	}
	host, port, number, bad := cutPort(s)
	if bad != nil {
		return address{}, bad
	}
	if number == 0 {
		return address{}, &flaw{"port 0 would be another port for every event loop", "write a number from 1 to 65535"}
	}
	if host == "" || host == "*" {
		return address{}, &flaw{
			"address " + yaml.Quote(s) + " doesn't say whether it is IPv4 or IPv6",
			"write 0.0.0.0:" + port + ` for every IPv4 address or "[::]:` + port + `" for every IPv6 address; to have both, write two listeners`,
		}
	}
	if ip, err := netip.ParseAddr(bareIP(host)); err == nil {
		return ipAddress(ip, host, number)
	}
	return address{}, hostFlaw(host, port)
}

// cutPort takes the port off an address.
func cutPort(s string) (host, port string, number uint16, bad *flaw) {
	colon := strings.LastIndexByte(s, ':')
	if colon < 0 || strings.HasSuffix(s, "]") { // the colons of an IPv6 address are no port's
		return "", "", 0, &flaw{"address " + yaml.Quote(s) + " has no port", "write " + s + ":8080, or unix: and a path"}
	}
	host, port = s[:colon], s[colon+1:]
	v, err := strconv.ParseUint(port, 10, 16)
	if err != nil || port[0] == '+' {
		return "", "", 0, &flaw{"port " + yaml.Quote(port) + " is not a number from 1 to 65535", "names of ports are not looked up"}
	}
	return host, port, uint16(v), nil
}

// bareIP takes the brackets off an IPv6 address.
func bareIP(host string) string { return strings.TrimSuffix(strings.TrimPrefix(host, "["), "]") }

// ipAddress checks an address, written as host, that is to be connected to or bound.
func ipAddress(ip netip.Addr, host string, port uint16) (address, *flaw) {
	a := address{network: "tcp4", ip: netip.AddrPortFrom(ip, port)}
	bare, number := bareIP(host), strconv.Itoa(int(port))
	switch {
	case ip.Is4() && bare != host:
		return address{}, &flaw{"an IPv4 address takes no brackets", "write " + bare + ":" + number}
	case ip.Is6() && "["+bare+"]" != host:
		return address{}, &flaw{"an IPv6 address with a port needs brackets", `write "[` + bare + `]:` + number + `"`}
	case ip.Is4In6():
		return address{}, &flaw{"an IPv4 address in IPv6 form is not supported", "write " + ip.Unmap().String() + ":" + number}
	case ip.IsLinkLocalUnicast() && ip.Is6() && ip.Zone() == "":
		return address{}, &flaw{"a link-local address needs the name of its interface", `write "[` + bare + `%eth0]:` + number + `"`}
	case ip.IsMulticast():
		return address{}, &flaw{"a multicast address can't take connections", "write an address of one machine"}
	}
	if ip.Is6() {
		a.network = "tcp6"
	}
	a.canonical = a.ip.String()
	return a, nil
}

func hostFlaw(host, port string) *flaw {
	if host == "localhost" {
		return &flaw{"names are not looked up in an address", "write 127.0.0.1:" + port + ` or "[::1]:` + port + `"`}
	}
	return &flaw{yaml.Quote(host) + " is not an IP address", "write an IP address of this machine; names are not looked up"}
}

func parseUnix(path string) (address, *flaw) {
	switch {
	case strings.HasPrefix(path, "@"):
		return address{}, &flaw{"abstract sockets are not supported", "write unix: and an absolute path"}
	case !filepath.IsAbs(path):
		return address{}, &flaw{"the path of a Unix socket must be absolute", "as in unix:/run/web.sock"}
	case strings.ContainsRune(path, 0):
		return address{}, &flaw{"the path of a Unix socket can't hold a NUL", ""}
	case strings.HasSuffix(path, "/"):
		return address{}, &flaw{"the path of a Unix socket can't end in a slash", "as in unix:/run/web.sock"}
	}
	clean := filepath.Clean(path)
	if len(clean) > maxUnixPath {
		return address{}, &flaw{
			"the path of a Unix socket is " + strconv.Itoa(len(clean)) + " bytes long; the kernel takes at most " + strconv.Itoa(maxUnixPath),
			"use a shorter directory",
		}
	}
	return address{network: "unix", canonical: clean}, nil
}
