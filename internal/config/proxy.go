package config

import (
	"time"

	"reuseportd/internal/config/yaml"
)

// Proxy passes requests on to the servers of an upstream.
type Proxy struct {
	Upstream string
	// StripPrefix takes the route's path off the request's.
	StripPrefix bool
	// Host is the Host field that is sent: HostPreserve, HostServer or any other text.
	Host string

	Request, Response HeaderEdit

	ResponseTimeout time.Duration // between two reads from the server: 504
	TotalTimeout    time.Duration // of an exchange; 0 is no bound
}

const (
	HostPreserve = "preserve" // the client's
	HostServer   = "server"   // the server's address
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

func (d *decoder) proxy(n *yaml.Node) *Proxy {
	p := &Proxy{Host: HostPreserve, ResponseTimeout: 60 * time.Second}
	if g := proxyObject.read(d, n, p); g != nil && !g.has("upstream") {
		d.missing(g, n.Pos, "add upstream: and the name of one", "proxy without upstream")
	}
	return p
}

// HeaderEdit is done to the fields of a message: Remove first, then Set, which also
// removes what the message had of that name. Names and values are valid.
type HeaderEdit struct {
	Set    []Header
	Remove []string
}

var (
	requestHeadersObject  = headerEditObject("request_headers", proxyRequestHeaders)
	responseHeadersObject = headerEditObject("response_headers", proxyHeaders)
)

func headerEditObject(name string, own map[string]string) object[HeaderEdit] {
	return object[HeaderEdit]{at: "listeners[].http.routes[].proxy." + name, what: name, fields: []field[HeaderEdit]{
		{"set", func(d *decoder, n *yaml.Node, e *HeaderEdit) {
			if e.Set = d.headers(n, own); name == "request_headers" {
				d.placeholders(n)
			}
		}},
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
