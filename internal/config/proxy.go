package config

import (
	"net/netip"
	"strconv"
	"strings"
	"time"

	"reuseportd/internal/config/yaml"
)

var proxyObject = object[Proxy]{at: "listeners[].http.routes[].proxy", what: "proxy", fields: []field[Proxy]{
	{"upstream", func(d *decoder, n *yaml.Node, p *Proxy) { p.Upstream = d.use(n, true) }},
	{"strip_prefix", boolInto(func(p *Proxy) *bool { return &p.StripPrefix })},
	{"host", hostFieldInto(func(p *Proxy) *string { return &p.Host })},
	{"request_headers", func(d *decoder, n *yaml.Node, p *Proxy) { requestHeadersObject.read(d, n, &p.Request) }},
	{"response_headers", func(d *decoder, n *yaml.Node, p *Proxy) { responseHeadersObject.read(d, n, &p.Response) }},
	{"response_timeout", durationInto(time.Millisecond, func(p *Proxy) *time.Duration { return &p.ResponseTimeout })},
	{"total_timeout", durationInto(0, func(p *Proxy) *time.Duration { return &p.TotalTimeout })},
}}

var (
	requestHeadersObject  = headerEditObject("request_headers", proxyRequestHeaders)
	responseHeadersObject = headerEditObject("response_headers", proxyHeaders)
)

func headerEditObject(name string, own map[string]string) object[HeaderEdit] {
	return object[HeaderEdit]{at: "listeners[].http.routes[].proxy." + name, what: name, fields: []field[HeaderEdit]{
		{"set", func(d *decoder, n *yaml.Node, e *HeaderEdit) { e.Set = d.headers(n, own) }},
		{"remove", func(d *decoder, n *yaml.Node, e *HeaderEdit) { e.Remove = d.headerNames(n, own) }},
	}}
}

// proxyHeaders are about one connection (RFC 9110 section 7.6.1) or frame the message,
// so the server writes its own on each side.
var proxyHeaders = map[string]string{
	"content-length":    "the server frames the message itself",
	"transfer-encoding": "the server frames the message itself",
	"trailer":           "the server frames the message itself",
	"connection":        "it is about one connection, and the server decides it",
	"keep-alive":        "it is about one connection, and the server decides it",
	"proxy-connection":  "it is about one connection, and the server decides it",
	"te":                "it is about one connection, and the server decides it",
	"upgrade":           "it is about one connection, and the server decides it",
}

var proxyRequestHeaders = with(proxyHeaders, map[string]string{
	"host":   "use host: of proxy",
	"expect": "it is about one connection, and the server decides it",
})

func with(a, b map[string]string) map[string]string {
	all := map[string]string{}
	for _, m := range []map[string]string{a, b} {
		for k, v := range m {
			all[k] = v
		}
	}
	return all
}

func (d *decoder) proxy(n *yaml.Node) *Proxy {
	p := &Proxy{Host: HostPreserve, ResponseTimeout: 60 * time.Second}
	if g := proxyObject.read(d, n, p); g != nil && !g.has("upstream") {
		d.missing(g, n.Pos, "add upstream: and the name of one", "proxy without upstream")
	}
	return p
}

// headerNames reads the names of headers.
func (d *decoder) headerNames(n *yaml.Node, own map[string]string) []string {
	items, ok := d.items(n, "as in [Cookie]")
	if !ok {
		return nil
	}
	var names []string
	for _, item := range items {
		if !d.visit(item.Pos) {
			return nil
		}
		if s, ok := d.text(item); ok && d.headerName(s, item.Pos, own, "removed") {
			names = append(names, s)
		}
	}
	return names
}

// hostFieldInto reads the value of a Host field: a name or an address, perhaps with a
// port (RFC 9110 section 7.2).
func hostFieldInto[T any](at func(*T) *string) func(*decoder, *yaml.Node, *T) {
	return func(d *decoder, n *yaml.Node, into *T) {
		s, ok := d.text(n)
		if !ok {
			return
		}
		host := s
		if colon := strings.LastIndexByte(s, ':'); colon >= 0 && !strings.HasSuffix(s, "]") {
			if _, err := strconv.ParseUint(s[colon+1:], 10, 16); err == nil {
				host = s[:colon]
			}
		}
		ip, err := netip.ParseAddr(bareIP(host))
		six := err == nil && ip.Is6() && ip.Zone() == "" && host == "["+bareIP(host)+"]"
		if !six && (len(host) > 255 || !isHostName(strings.ToLower(host))) {
			d.wrong(n, "as in app.internal, app.internal:8080 or [::1]:8080", "the host that is sent")
			return
		}
		*at(into) = s
	}
}
