package config

import (
	"slices"
	"strings"

	"reuseportd/internal/config/yaml"
)

// use is a place that names an upstream.
type use struct {
	name string
	pos  Position
	http bool // a proxy route's
	sni  bool // of a listener that passes TLS on undecrypted
}

// use reads the name of an upstream. Whether there is one shows when all has been read:
// upstreams may stand behind listeners.
func (d *decoder) use(n *yaml.Node, http bool) string {
	s, ok := d.text(n)
	if ok {
		d.uses = append(d.uses, use{name: s, pos: n.Pos, http: http})
	}
	return s
}

// upstreams holds the places that name upstreams against those that there are.
func (d *decoder) upstreams(c *Config) {
	used := map[string]bool{}
	for _, u := range d.uses {
		used[u.name] = true
		up := c.Upstream(u.name)
		switch {
		case up == nil:
			d.rep.Add(u.pos, unknownUpstream(u.name, c), "there is no upstream named %s", yaml.Quote(u.name))
		case u.http && up.SendProxy != 0:
			d.rep.Add(u.pos, "take send_proxy off it, or make another upstream without",
				"upstream %s has send_proxy, which is for tcp only", up.Name)
		case u.sni && up.TLS != nil:
			d.rep.Add(u.pos, "take tls off it, or make another upstream without",
				"upstream %s has tls, and clients' own TLS is passed on to it: it would be TLS in TLS", up.Name)
		}
	}
	for i := range c.Listeners {
		d.noCircle(c, &c.Listeners[i])
	}
	for i := range c.Upstreams {
		if u := &c.Upstreams[i]; u.Name != "" && !used[u.Name] {
			d.rep.Warn(u.Pos, "remove it, or name it in a tcp: or a proxy:", "nothing uses the upstream "+u.Name)
		}
	}
}

// noCircle refuses a listener that would connect to itself, for ever more.
func (d *decoder) noCircle(c *Config, l *Listener) {
	if l.TCP == nil {
		return
	}
	names := []string{l.TCP.Upstream}
	for _, n := range l.TCP.SNI {
		names = append(names, n.Upstream)
	}
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		if up := c.Upstream(name); up != nil {
			d.noCircleTo(up, l)
		}
	}
}

func (d *decoder) noCircleTo(up *Upstream, l *Listener) {
	for _, s := range up.Servers {
		if s.Address != "" && s.Address == l.Address && (s.Network == "unix") == (l.Network == "unix") && !s.Named {
			d.rep.Add(s.Pos, "write the address of the server behind it",
				"this is the address of the listener %s itself, whose connections would go round for ever", l.Name)
		}
	}
}

func unknownUpstream(name string, c *Config) string {
	var names []string
	for i := range c.Upstreams {
		if n := c.Upstreams[i].Name; n != "" {
			names = append(names, n)
		}
	}
	switch near := yaml.Nearest(name, names); {
	case near != "":
		return "did you mean " + near + "?"
	case strings.Contains(name, ":"):
		return "write the address among the servers of an upstream, and the upstream's name here"
	case len(names) == 0:
		return "add upstreams: with - name: " + name + " and its servers at the top of the file"
	case len(names) == 1:
		return "the only one is " + names[0]
	}
	return "the upstreams are " + yaml.Sentence(names, "and")
}
