package config

import (
	"net/netip"
	"time"

	"reuseportd/internal/config/yaml"
)

// HTTP is an HTTP/1.1 service.
type HTTP struct {
	Routes []Route

	HeaderTimeout    time.Duration // from the first byte of a request to the end of its head: 408
	BodyTimeout      time.Duration // between two reads of a request body: 408
	KeepaliveTimeout time.Duration // between two requests
	WriteTimeout     time.Duration // between two writes that make progress

	MaxRequestLine int   // bytes; beyond it 414
	MaxHeader      int   // bytes of the whole head; beyond it 431
	MaxBody        int64 // bytes; beyond it 413

	// A connection's last answer is that of its MaxRequests-th request, or the first one after
	// MaxLifetime; 0 is no bound.
	MaxRequests int
	MaxLifetime time.Duration

	// MinRate is what a client must send of a body, or take of an answer, in bytes a second; 0 is
	// no bound.
	MinRate int64

	// TunnelTimeout is how long nothing may move in a tunnel; 0 is no bound.
	TunnelTimeout time.Duration

	// TrustedProxies are those whose X-Forwarded-* and Forwarded are kept.
	TrustedProxies []netip.Prefix
	// UnderscoresInHeaders lets a proxy pass on fields with underscores in their names.
	UnderscoresInHeaders bool

	// AccessLog is nil when there is none.
	AccessLog *AccessLog
}

var httpObject = object[HTTP]{at: "listeners[].http", what: "http", fields: []field[HTTP]{
	{"routes", func(d *decoder, n *yaml.Node, h *HTTP) { h.Routes = d.routes(n) }},
	{"header_timeout", durationInto(time.Millisecond, func(h *HTTP) *time.Duration { return &h.HeaderTimeout })},
	{"body_timeout", durationInto(time.Millisecond, func(h *HTTP) *time.Duration { return &h.BodyTimeout })},
	{"keepalive_timeout", durationInto(time.Millisecond, func(h *HTTP) *time.Duration { return &h.KeepaliveTimeout })},
	{"write_timeout", durationInto(time.Millisecond, func(h *HTTP) *time.Duration { return &h.WriteTimeout })},
	{"tunnel_timeout", durationInto(0, func(h *HTTP) *time.Duration { return &h.TunnelTimeout })},
	{"max_request_line", sizeInto(64, 1<<20, func(h *HTTP) *int { return &h.MaxRequestLine })},
	{"max_header", sizeInto(128, 1<<20, func(h *HTTP) *int { return &h.MaxHeader })},
	{"max_body", sizeInto(0, 1<<40, func(h *HTTP) *int64 { return &h.MaxBody })},
	{"max_requests", intInto(0, 1<<30, func(h *HTTP) *int { return &h.MaxRequests })},
	{"max_lifetime", durationInto(0, func(h *HTTP) *time.Duration { return &h.MaxLifetime })},
	{"min_rate", sizeInto(0, 1<<30, func(h *HTTP) *int64 { return &h.MinRate })},
	{"trusted_proxies", readTrusted},
	{"underscores_in_headers", boolInto(func(h *HTTP) *bool { return &h.UnderscoresInHeaders })},
	{"access_log", func(d *decoder, n *yaml.Node, h *HTTP) {
		h.AccessLog = &AccessLog{Format: "combined", File: "-"}
		accessLogObject.read(d, n, h.AccessLog)
	}},
}}

func defaultHTTP() *HTTP {
	return &HTTP{
		HeaderTimeout:    10 * time.Second,
		BodyTimeout:      30 * time.Second,
		KeepaliveTimeout: 75 * time.Second,
		WriteTimeout:     60 * time.Second,
		TunnelTimeout:    time.Hour,
		MaxRequestLine:   8 << 10,
		MaxHeader:        32 << 10,
		MaxBody:          1 << 20,
	}
}

// http reads an http service; it never returns nil.
func (d *decoder) http(n *yaml.Node) *HTTP {
	h := defaultHTTP()
	g := httpObject.read(d, n, h)
	if g == nil {
		return h
	}
	if !g.has("routes") {
		d.missing(g, n.Pos, "add routes: with at least one - respond:, - files: or - proxy:", "http without routes")
	}
	if h.MaxHeader < h.MaxRequestLine {
		d.rep.Add(g.pos("max_header", g.pos("max_request_line", n.Pos)), "max_header counts the request line too",
			"max_header (%s) is less than max_request_line (%s)", shortSize(int64(h.MaxHeader)), shortSize(int64(h.MaxRequestLine)))
	}
	return h
}
