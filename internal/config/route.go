package config

import (
	"fmt"
	"net/netip"
	"strings"

	"reuseportd/internal/config/yaml"
)

// Route is chosen by host, then by the longest path prefix. Exactly one of
// Respond, Files and Proxy is set.
type Route struct {
	// Host is lower case and without a port; "" matches every host.
	Host string
	// Path is a prefix that begins with "/". "/a/" matches below it; "/a"
	// matches "/a" and what is below "/a/", never "/ab".
	Path string

	Respond *Respond
	Files   *Files
	Proxy   *Proxy
}

var routeObject = object[Route]{at: "listeners[].http.routes[]", what: "a route", fields: []field[Route]{
	{"host", readHost},
	{"path", readPath},
	{"respond", func(d *decoder, n *yaml.Node, r *Route) { r.Respond = d.respond(n) }},
	{"files", func(d *decoder, n *yaml.Node, r *Route) { r.Files = d.files(n) }},
	{"proxy", func(d *decoder, n *yaml.Node, r *Route) { r.Proxy = d.proxy(n) }},
}}

// routeKinds are the keys that a route has one of.
var routeKinds = []string{"respond", "files", "proxy"}

func (d *decoder) routes(n *yaml.Node) []Route {
	items, ok := d.items(n, "begin each route with - path:")
	if !ok {
		return nil
	}
	if len(items) == 0 {
		d.rep.Add(n.Pos, "add at least one - respond:, - files: or - proxy:", "http without routes")
	}
	routes := make([]Route, 0, len(items))
	seen := map[[2]string]Position{}
	for _, item := range items {
		r := Route{Path: "/"}
		before := d.rep.Len()
		g := routeObject.read(d, item, &r)
		if g == nil {
			continue
		}
		if d.rep.Len() == before {
			d.uniqueRoute(seen, &r, g.pos("path", item.Pos))
		}
		d.oneOf(item, g, routeKinds, "keep one; give the other a route of its own", "a route answers in one way, and this one has %s", "a route that answers nothing")
		routes = append(routes, r)
	}
	return routes
}

// uniqueRoute reports a route that an earlier one always hides.
func (d *decoder) uniqueRoute(seen map[[2]string]Position, r *Route, pos Position) {
	key := [2]string{r.Host, r.Path}
	first, twice := seen[key]
	if !twice {
		seen[key] = pos
		return
	}
	on := "every host"
	if r.Host != "" {
		on = "the host " + r.Host
	}
	d.rep.Add(pos, fmt.Sprintf("the first is on line %d", first.Line), "two routes have the path %s on %s", yaml.Quote(r.Path), on)
}

// readHost reads a name or an IP address, as a Host field has it without port.
func readHost(d *decoder, n *yaml.Node, r *Route) {
	s, ok := d.text(n)
	if !ok {
		return
	}
	s = strings.ToLower(s)
	bare := strings.TrimSuffix(strings.TrimPrefix(s, "["), "]")
	if ip, err := netip.ParseAddr(bare); err == nil && ip.Is6() && ip.Zone() == "" {
		r.Host = "[" + ip.String() + "]"
		return
	}
	if s == "" || len(s) <= 255 && isHostName(s) {
		r.Host = s
		return
	}
	hint := "as in www.example.com; leave the key out for every host"
	switch name, port, _ := strings.Cut(s, ":"); {
	case strings.Contains(s, "*"):
		hint = "write each name in a route of its own; wildcards are not supported"
	case port != "" && strings.Trim(port, "0123456789") == "":
		hint = "write " + name + ", without the port"
	}
	d.wrong(n, hint, "a host name")
}

// readPath reads a prefix, as it looks after percent-decoding.
func readPath(d *decoder, n *yaml.Node, r *Route) {
	s, ok := d.text(n)
	if !ok {
		return
	}
	hint := ""
	switch {
	case !strings.HasPrefix(s, "/"):
		hint = "write /" + s
	case strings.ContainsAny(s, "?#"):
		hint = "remove the part from ? or # on; routes are chosen by path only"
	case strings.Contains(s, "%"):
		hint = "write the character itself; paths are compared after percent-decoding"
	case strings.Contains(s, "//"), strings.Contains(s+"/", "/../"), strings.Contains(s+"/", "/./"):
		hint = "write it without empty parts, . and .."
	case hasControl(s):
		hint = "remove the control character"
	default:
		r.Path = s
		return
	}
	d.wrong(n, hint, "a path prefix")
}
