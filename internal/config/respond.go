package config

import "reuseportd/internal/config/yaml"

// Respond answers every method with one fixed response.
type Respond struct {
	Status  int // 200…599
	Headers []Header
	Body    []byte
	// File is the absolute path of what has the body, "" if Body is it. See Config.Materials.
	File    string
	FilePos Position
}

var respondObject = object[Respond]{at: "listeners[].http.routes[].respond", what: "respond", fields: []field[Respond]{
	{"status", intInto(200, 599, func(r *Respond) *int { return &r.Status })},
	{"headers", func(d *decoder, n *yaml.Node, r *Respond) { r.Headers = d.headers(n, ownHeaders) }},
	{"body", func(d *decoder, n *yaml.Node, r *Respond) {
		if s, ok := d.text(n); ok {
			r.Body = []byte(s)
		}
	}},
	{"file", func(d *decoder, n *yaml.Node, r *Respond) {
		r.FilePos = n.Pos
		pathInto(func(r *Respond) *string { return &r.File })(d, n, r)
	}},
}}

func (d *decoder) respond(n *yaml.Node) *Respond {
	r := &Respond{Status: 200}
	g := respondObject.read(d, n, r)
	switch {
	case g == nil:
	case g.has("body") && r.File != "":
		d.rep.Add(r.FilePos, "keep body: or file:", "a response with two bodies")
	case bodiless(r.Status) && (len(r.Body) > 0 || r.File != ""):
		pos := g.pos("body", n.Pos)
		if r.File != "" {
			pos = r.FilePos
		}
		d.rep.Add(pos, "remove the body or choose another status",
			"a response with status %d has no body (RFC 9110 section 15)", r.Status)
	}
	return r
}

// bodiless reports whether a status allows no content.
func bodiless(status int) bool { return status == 204 || status == 205 || status == 304 }

// ownHeaders are written by the server, or would contradict what it writes.
var ownHeaders = map[string]string{
	"content-length":    "the server counts the body itself",
	"transfer-encoding": "the server frames the body itself",
	"connection":        "the server decides whether the connection stays open",
	"keep-alive":        "the server decides whether the connection stays open",
	"proxy-connection":  "the server decides whether the connection stays open",
	"date":              "the server sets the date itself",
	"upgrade":           "a fixed response can't change the protocol",
	"trailer":           "a fixed response has no trailers",
}
