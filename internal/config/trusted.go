package config

import (
	"net/netip"

	"reuseportd/internal/config/yaml"
)

// readTrusted reads ranges of addresses; a bare address is a range of one.
func readTrusted(d *decoder, n *yaml.Node, h *HTTP) {
	items, ok := d.items(n, "as in [10.0.0.0/8]")
	if !ok {
		return
	}
	for _, item := range items {
		if s, ok := d.text(item); !ok {
			continue
		} else if p, hint := parseRange(s); hint == "" {
			h.TrustedProxies = append(h.TrustedProxies, p)
		} else {
			d.rep.Add(item.Pos, hint, "%s is not a range of addresses", yaml.Quote(s))
		}
	}
}

// parseRange returns the range that s is, or a hint at what would be one.
func parseRange(s string) (p netip.Prefix, hint string) {
	if ip, err := netip.ParseAddr(s); err == nil {
		p = netip.PrefixFrom(ip.WithZone(""), ip.BitLen())
		if ip.Zone() != "" {
			return p, "write " + p.String() + ", without the interface"
		}
	} else if p, err = netip.ParsePrefix(s); err != nil {
		return p, "as in 10.0.0.0/8, 192.0.2.1 or fd00::/8"
	}
	switch {
	case p.Addr().Is4In6():
		return p, "write IPv4 addresses as in 10.0.0.0/8"
	case p != p.Masked():
		return p, "write " + p.Masked().String() + ", or the address without / if only it is meant"
	}
	return p, ""
}
