package config

import (
	"fmt"
	"net/netip"
	"strings"

	"reuseportd/internal/config/yaml"
)

// Server is one address of an upstream, or all that a name stands for.
type Server struct {
	// Network is tcp or unix. Address is canonical: "10.0.0.1:80", "[::1]:80", a
	// path, or "name:80" in lower case, which is to be looked up.
	Network string
	Address string
	Named   bool

	Weight         int // 1 or more
	MaxConnections int // in use at the same time, by all workers together; 0 is no bound
	Backup         bool

	Pos Position
}

var serverObject = object[Server]{at: "upstreams[].servers[]", what: "a server", fields: []field[Server]{
	{"address", readServerAddress},
	{"weight", intInto(1, maxWeight, func(s *Server) *int { return &s.Weight })},
	{"max_connections", intInto(0, 1<<24, func(s *Server) *int { return &s.MaxConnections })},
	{"backup", boolInto(func(s *Server) *bool { return &s.Backup })},
}}

// servers reads an upstream's and finds addresses given twice.
func (d *decoder) servers(n *yaml.Node) []Server {
	items, ok := d.items(n, "begin each server with - address:")
	if !ok {
		return nil
	}
	if len(items) == 0 {
		d.rep.Add(n.Pos, "add at least one - address:", "an upstream without servers")
	}
	if len(items) > maxServers {
		d.rep.Add(items[maxServers].Pos, "make two upstreams of them", "an upstream has at most %d servers, and this one has %d", maxServers, len(items))
		return nil
	}
	servers := make([]Server, 0, len(items))
	addresses, backups := map[string]Position{}, 0
	for _, item := range items {
		s := Server{Weight: 1, Pos: item.Pos}
		g := serverObject.read(d, item, &s)
		if g == nil {
			continue
		}
		if !g.has("address") {
			d.missing(g, item.Pos, "add address:", "a server without address")
		}
		if s.Address != "" {
			d.unique(addresses, s.Network+"!"+s.Address, s.Pos, "servers of this upstream have the address "+s.Address)
		}
		if s.Backup {
			backups++
		}
		servers = append(servers, s)
	}
	if backups > 0 && backups == len(items) {
		d.rep.Add(n.Pos, "take backup: off those that are to serve as long as they are up",
			"all servers of this upstream are backups, which serve only when no other is up")
	}
	return servers
}

// readServerAddress reads where a server is. Unlike a listener's it may be a name, and
// nothing is asked of this machine: a server may come up later.
func readServerAddress(d *decoder, n *yaml.Node, s *Server) {
	hint := `as in 10.0.0.1:8080, "[fd00::2]:8080", unix:/run/app.sock or app.internal:8080`
	switch {
	case n.Kind == yaml.Int:
		hint = "write 127.0.0.1:" + n.Text + " for a server on this machine"
	case n.Kind == yaml.Sequence:
		hint = `put an IPv6 address in quotes, as in "[::1]:8080"`
	}
	if n.Kind != yaml.Text {
		d.wrong(n, hint, "an address or a name with its port, or unix: and a path")
		return
	}
	if at, flaw := parseServer(n.Text); flaw != nil {
		d.rep.Add(n.Pos, flaw.hint, "%s", flaw.message)
	} else {
		s.Network, s.Address, s.Named = at.Network, at.Address, at.Named
	}
	s.Pos = n.Pos
}

// parseServer takes a server's address apart.
func parseServer(s string) (Server, *flaw) {
	if rest, ok := strings.CutPrefix(s, "unix:"); ok {
		a, bad := parseUnix(rest)
		return Server{Network: "unix", Address: a.canonical}, bad
	}
	if _, rest, ok := strings.Cut(s, "://"); ok {
		return Server{}, &flaw{yaml.Quote(s) + " is a URL, not an address", "write " + strings.TrimRight(rest, "/") + ", with its port"}
	}
	host, port, number, bad := cutPort(s)
	switch {
	case bad != nil:
		return Server{}, bad
	case number == 0:
		return Server{}, &flaw{"nothing can be reached at port 0", "write a number from 1 to 65535"}
	case host == "":
		return Server{}, &flaw{"address " + yaml.Quote(s) + " doesn't say which machine", "write 127.0.0.1:" + port + " for this one"}
	}
	ip, err := netip.ParseAddr(bareIP(host))
	if err != nil {
		return parseNamed(host, number)
	}
	if ip.IsUnspecified() {
		hint := "write 127.0.0.1:" + port + " for this one"
		if ip.Is6() {
			hint = `write "[::1]:` + port + `" for this one`
		}
		return Server{}, &flaw{"the address " + ip.String() + " stands for all addresses of a machine, to listen on", hint}
	}
	a, bad := ipAddress(ip, host, number)
	return Server{Network: "tcp", Address: a.canonical}, bad
}

// parseNamed takes a name that is to be looked up. A name whose last label is a number
// is none (RFC 3696 section 2): it is an IPv4 address with a mistake in it.
func parseNamed(host string, port uint16) (Server, *flaw) {
	const hint = "as in 10.0.0.1, app.internal or [fd00::2], with a port behind it"
	name := strings.ToLower(host)
	labels := strings.Split(strings.TrimSuffix(name, "."), ".")
	if len(name) > 253 || !isHostName(strings.Join(labels, ".")) {
		return Server{}, &flaw{yaml.Quote(host) + " is neither an IP address nor the name of a host", hint}
	}
	for _, label := range labels {
		if len(label) > 63 {
			return Server{}, &flaw{"the part " + yaml.Quote(label) + " of a host's name is longer than 63 characters", hint}
		}
	}
	if strings.Trim(labels[len(labels)-1], "0123456789") == "" {
		return Server{}, &flaw{yaml.Quote(host) + " is not an IP address, and a host's name doesn't end in a number", hint}
	}
	return Server{Network: "tcp", Address: fmt.Sprintf("%s:%d", name, port), Named: true}, nil
}
