package config

import (
	"time"

	"reuseportd/internal/config/yaml"
)

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

var accessLogObject = object[AccessLog]{at: "listeners[].http.access_log", what: "access_log", fields: []field[AccessLog]{
	{"format", choiceInto([]string{"combined", "json"}, func(a *AccessLog) *string { return &a.Format })},
	{"file", func(d *decoder, n *yaml.Node, a *AccessLog) {
		if n.Kind == yaml.Text && n.Text == "-" {
			return
		}
		logFileInto(`write "-" for standard output`, func(a *AccessLog) *string { return &a.File })(d, n, a)
	}},
}}

var echoObject = object[Echo]{at: "listeners[].echo", what: "echo", fields: []field[Echo]{
	{"idle_timeout", durationInto(0, func(e *Echo) *time.Duration { return &e.IdleTimeout })},
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
