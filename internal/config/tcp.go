package config

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"reuseportd/internal/config/yaml"
)

var tcpObject = object[TCP]{at: "listeners[].tcp", what: "tcp", fields: []field[TCP]{
	{"upstream", func(d *decoder, n *yaml.Node, t *TCP) { t.Upstream = d.use(n, false) }},
	{"sni", readSNI},
	{"idle_timeout", durationInto(0, func(t *TCP) *time.Duration { return &t.IdleTimeout })},
	{"total_timeout", durationInto(0, func(t *TCP) *time.Duration { return &t.TotalTimeout })},
	{"accept_proxy", boolInto(func(t *TCP) *bool { return &t.AcceptProxy })},
	{"nodelay", boolInto(func(t *TCP) *bool { return &t.NoDelay })},
	{"keepalive", readKeepalive},
}}

// The bounds are the kernel's: MAX_TCP_KEEPIDLE, MAX_TCP_KEEPINTVL and MAX_TCP_KEEPCNT.
var keepaliveObject = object[Keepalive]{at: "listeners[].tcp.keepalive", what: "keepalive", fields: []field[Keepalive]{
	{"idle", secondsInto(32767, func(k *Keepalive) *time.Duration { return &k.Idle })},
	{"interval", secondsInto(32767, func(k *Keepalive) *time.Duration { return &k.Interval })},
	{"count", intInto(1, 127, func(k *Keepalive) *int { return &k.Count })},
}}

func defaultKeepalive() *Keepalive {
	return &Keepalive{Idle: 60 * time.Second, Interval: 10 * time.Second, Count: 6}
}

// tcp reads a tcp service; it never returns nil.
func (d *decoder) tcp(n *yaml.Node) *TCP {
	t := &TCP{IdleTimeout: time.Hour, NoDelay: true, Keepalive: defaultKeepalive()}
	if g := tcpObject.read(d, n, t); g != nil && !g.has("upstream") && !g.has("sni") {
		d.missing(g, n.Pos, "add upstream: and the name of one", "tcp without upstream")
	}
	return t
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
		t.SNI = append(t.SNI, SNI{name, d.use(e.Value, false)})
	}
}

// checkServerName says why no TLS client can ask for a name (RFC 6066 section 3).
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

// readKeepalive reads off, or the keys of an object.
func readKeepalive(d *decoder, n *yaml.Node, t *TCP) {
	switch {
	case n.Kind == yaml.Text && n.Text == "off", n.Kind == yaml.Bool && n.Text == "off":
		t.Keepalive = nil
	case n.Kind == yaml.Mapping || n.Kind == yaml.Null:
		t.Keepalive = defaultKeepalive()
		keepaliveObject.read(d, n, t.Keepalive)
	default:
		hint := "as in {idle: 60s, interval: 10s, count: 6}"
		if n.Kind == yaml.Bool {
			hint = "write off, or leave the key out for the default"
		}
		d.wrong(n, hint, "off, or idle, interval and count")
	}
}

// secondsInto reads a duration that the kernel takes in seconds.
func secondsInto[T any](most int, at func(*T) *time.Duration) func(*decoder, *yaml.Node, *T) {
	whole := durationInto(time.Second, func(v *time.Duration) *time.Duration { return v })
	return func(d *decoder, n *yaml.Node, into *T) {
		var v time.Duration
		whole(d, n, &v)
		switch {
		case v > time.Duration(most)*time.Second:
			d.wrong(n, "", fmt.Sprintf("from 1s to %ds", most))
		case v%time.Second != 0:
			d.wrong(n, "the kernel counts it in seconds", "whole seconds")
		case v > 0:
			*at(into) = v
		}
	}
}
