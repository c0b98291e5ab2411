package config

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"reuseportd/internal/config/yaml"
)

// SNI says which upstream is meant by a name.
type SNI struct {
	Name     string // in lower case; "*." before it stands for one label or more
	Upstream string
}

// readSNI reads name: upstream lines.
func readSNI(d *decoder, n *yaml.Node, t *TCP) {
	const hint = `as in {"*.eu.example.com": eu, us.example.com: us}`
	switch {
	case n.Kind != yaml.Mapping:
		d.wrong(n, hint, "name: upstream lines")
		return
	case len(n.Entries) == 0:
		d.rep.Add(n.Pos, hint+"; or leave the key out", "sni has no names")
		return
	}
	seen := map[string]Position{}
	for _, e := range n.Entries {
		if !d.visit(e.Pos) {
			return
		}
		name := strings.ToLower(e.Key)
		first, twice := seen[name]
		switch bad := checkServerName(name); {
		case bad != nil:
			d.rep.Add(e.Pos, bad.hint, "%s", bad.message)
			continue
		case twice:
			d.rep.Add(e.Pos, fmt.Sprintf("the first is on line %d", first.Line), "the name %s is given twice", yaml.Quote(name))
			continue
		}
		seen[name] = e.Pos
		d.key = e.Key
		before := len(d.uses)
		t.SNI = append(t.SNI, SNI{name, d.use(e.Value, false)})
		for i := range d.uses[before:] {
			d.uses[before+i].sni = true
		}
	}
}

// checkServerName returns why no TLS client can ask for a name (RFC 6066 section 3), nil if one can.
func checkServerName(name string) *flaw {
	host := strings.TrimPrefix(name, "*.")
	switch {
	case name == "*":
		return &flaw{"* is everybody", "name the upstream of all others with upstream:"}
	case strings.HasSuffix(host, "."):
		return &flaw{yaml.Quote(name) + " ends with a dot, and no client sends one", "leave the dot out"}
	case strings.Contains(host, "*"):
		return &flaw{"in " + yaml.Quote(name) + " the * is not the whole first label", `write "*." before a name, for all below it`}
	case strings.Contains(host, ":"):
		return &flaw{yaml.Quote(name) + " has a port, or is an address", "clients ask for names only: write one without a port"}
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return &flaw{yaml.Quote(name) + " is an address, and clients ask for names only", "name its upstream with upstream:"}
	}
	if len(host) > 253 {
		return &flaw{"the name has " + strconv.Itoa(len(host)) + " bytes, and 253 are the most", ""}
	}
	for label := range strings.SplitSeq(host, ".") {
		if label == "" || len(label) > 63 {
			return &flaw{"in " + yaml.Quote(name) + " a label is empty, or longer than 63 bytes", ""}
		}
	}
	for _, c := range host {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && !strings.ContainsRune("-_.", c) {
			return &flaw{
				yaml.Quote(name) + " has the character " + yaml.Quote(string(c)) + ", which no name has",
				"write a name that isn't ASCII as clients send it: xn--…",
			}
		}
	}
	return nil
}
