package config

var respondObject = object[Respond]{at: "listeners[].http.routes[].respond", what: "respond", fields: []field[Respond]{
	{"status", intInto(200, 599, func(r *Respond) *int { return &r.Status })},
	{"headers", func(d *decoder, n *node, r *Respond) { r.Headers = d.headers(n, ownHeaders) }},
	{"body", func(d *decoder, n *node, r *Respond) {
		if s, ok := d.text(n); ok {
			r.Body = []byte(s)
		}
	}},
}}

func (d *decoder) respond(n *node) *Respond {
	r := &Respond{Status: 200}
	g := respondObject.read(d, n, r)
	if g != nil && bodiless(r.Status) && len(r.Body) > 0 {
		d.rep.add(g.pos("body", n.pos), "remove the body or choose another status",
			"a response with status %d has no body (RFC 9110 section 15)", r.Status)
	}
	return r
}

// bodiless says whether a status allows no content.
func bodiless(status int) bool { return status == 204 || status == 205 || status == 304 }
