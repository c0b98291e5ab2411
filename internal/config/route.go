package config

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"reuseportd/internal/config/yaml"
)

var routeObject = object[Route]{at: "listeners[].http.routes[]", what: "a route", fields: []field[Route]{
	{"host", readHost},
	{"path", readPath},
	{"respond", func(d *decoder, n *yaml.Node, r *Route) { r.Respond = d.respond(n) }},
	{"files", func(d *decoder, n *yaml.Node, r *Route) { r.Files = d.files(n) }},
	{"proxy", func(d *decoder, n *yaml.Node, r *Route) { r.Proxy = d.proxy(n) }},
}}

// answers are what a route has one of.
var answers = []string{"respond", "files", "proxy"}

var filesObject = object[Files]{at: "listeners[].http.routes[].files", what: "files", fields: []field[Files]{
	{"root", readRoot},
	{"index", readIndex},
	{"cache", durationInto(0, func(f *Files) *time.Duration { return &f.Cache })},
}}

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
		d.oneOf(item, g, answers, "keep one; give the other a route of its own", "a route answers in one way, and this one has %s", "a route that answers nothing")
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

// isHostName tells whether s is labels with dots between, in lower case: RFC 1123 section 2.1,
// and underscores, which are met.
func isHostName(s string) bool { return hostForm().MatchString(s) }

// hostForm is made when it is first needed, which is not at every start.
var hostForm = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*$`)
})

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

func (d *decoder) files(n *yaml.Node) *Files {
	f := &Files{Index: "index.html"}
	if g := filesObject.read(d, n, f); g != nil && !g.has("root") {
		d.missing(g, n.Pos, "add root: and the directory to serve", "files without root")
	}
	return f
}

func readRoot(d *decoder, n *yaml.Node, f *Files) {
	s, ok := d.text(n)
	if !ok {
		return
	}
	if !filepath.IsAbs(s) || hasControl(s) {
		hint := "as in /srv/www"
		if abs, err := filepath.Abs(filepath.Join(filepath.Dir(d.path), s)); err == nil && s != "" && d.path != "" && d.host != nil {
			hint = "write " + abs + " if that is meant"
		}
		d.wrong(n, hint, "an absolute path")
		return
	}
	f.Root, f.RootPos = filepath.Clean(s), n.Pos
	if d.host == nil {
		return
	}
	if bad := d.host.checkDir(f.Root, "the root"); bad != nil {
		d.rep.Add(n.Pos, bad.hint, "%s", bad.message)
	}
}

func readIndex(d *decoder, n *yaml.Node, f *Files) {
	s, ok := d.text(n)
	if ok && (s == "" || s == "." || s == ".." || strings.Contains(s, "/") || hasControl(s)) {
		d.wrong(n, "as in index.html", "the name of a file, without a directory")
		return
	}
	f.Index = s
}

// hasControl says whether s holds a control character, NUL among them.
func hasControl(s string) bool {
	return strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f })
}
