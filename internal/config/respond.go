package config

var respondObject = object[Respond]{at: "listeners[].http.routes[].respond", what: "respond", fields: []field[Respond]{
	{"status", intInto(200, 599, func(r *Respond) *int { return &r.Status })},
	{"headers", func(d *decoder, n *node, r *Respond) { r.Headers = d.headers(n, ownHeaders) }},
	{"body", func(d *decoder, n *node, r *Respond) {
		if s, ok := d.text(n); ok {
			r.Body = []byte(s)
		}
	}},
	{"file", func(d *decoder, n *node, r *Respond) {
		r.FilePos = n.pos
		pathInto(func(r *Respond) *string { return &r.File })(d, n, r)
	}},
}}

func (d *decoder) respond(n *node) *Respond {
	r := &Respond{Status: 200}
	g := respondObject.read(d, n, r)
	switch {
	case g == nil:
	case g.has("body") && r.File != "":
		d.rep.add(r.FilePos, "keep body: or file:", "a response with two bodies")
	case bodiless(r.Status) && (len(r.Body) > 0 || r.File != ""):
		pos := g.pos("body", n.pos)
		if r.File != "" {
			pos = r.FilePos
		}
		d.rep.add(pos, "remove the body or choose another status",
			"a response with status %d has no body (RFC 9110 section 15)", r.Status)
	}
	return r
}

// bodiless says whether a status allows no content.
func bodiless(status int) bool { return status == 204 || status == 205 || status == 304 }
