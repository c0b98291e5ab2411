package config

import (
	"path/filepath"

	"reuseportd/internal/config/yaml"
)

var respondObject = object[Respond]{at: "listeners[].http.routes[].respond", what: "respond", fields: []field[Respond]{
	{"status", intInto(200, 599, func(r *Respond) *int { return &r.Status })},
	{"headers", func(d *decoder, n *yaml.Node, r *Respond) { r.Headers = d.headers(n, ownHeaders) }},
	{"body", func(d *decoder, n *yaml.Node, r *Respond) {
		if s, ok := d.text(n); ok {
			r.Body = []byte(s)
		}
	}},
	{"file", readRespondFile},
}}

func readRespondFile(d *decoder, n *yaml.Node, r *Respond) {
	s, ok := d.text(n)
	if !ok {
		return
	}
	if !filepath.IsAbs(s) || hasControl(s) {
		d.wrong(n, "write the path of a file, from / on", "an absolute path")
		return
	}
	r.File, r.FilePos = filepath.Clean(s), n.Pos
}

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

// bodiless says whether a status allows no content.
func bodiless(status int) bool { return status == 204 || status == 205 || status == 304 }
