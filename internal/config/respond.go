package config

import (
	"slices"
	"strings"

	"reuseportd/internal/config/yaml"
)

// Respond answers every method with one fixed response.
type Respond struct {
	Status  int // 200…599
	Headers []Header
	Body    []byte
	// File is the absolute path of what has the body, "" if Body is it. See Config.Materials.
	File    string
	FilePos Position
	// Location is the value of a Location field that is made of each request; nil if there is none.
	Location []LocationPart
}

// LocationPart is a part of a Location: text, or a part of the request, "host" (without port) or "target".
type LocationPart struct{ Text, Of string }

var respondObject = object[Respond]{at: "listeners[].http.routes[].respond", what: "respond", fields: []field[Respond]{
	{"status", intInto(200, 599, func(r *Respond) *int { return &r.Status })},
	{"headers", func(d *decoder, n *yaml.Node, r *Respond) { r.Headers = d.headers(n, ownHeaders) }},
	{"body", func(d *decoder, n *yaml.Node, r *Respond) {
		if s, ok := d.text(n); ok {
			r.Body = []byte(s)
		}
	}},
	{"location", readLocation},
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
	case g.has("location") && hasHeader(r.Headers, "Location"):
		d.rep.Add(g.entries["location"].Pos, "keep one of them", "a response with two locations")
	case g.has("location") && (r.Status < 300 || r.Status > 399) && r.Status != 201:
		d.rep.Add(g.entries["location"].Pos, "add status: 308, which keeps the method, or 302, 303 or 307",
			"a response with status %d has no location (RFC 9110 section 10.2.2)", r.Status)
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

func hasHeader(all []Header, name string) bool {
	return slices.ContainsFunc(all, func(h Header) bool { return strings.EqualFold(h.Name, name) })
}

// readLocation reads a URL with {host} and {target} in it.
func readLocation(d *decoder, n *yaml.Node, r *Respond) {
	s, ok := d.text(n)
	if !ok {
		return
	}
	const hint = "as in https://{host}{target}"
	if s == "" || len(s) > 4096 || strings.ContainsFunc(s, func(c rune) bool { return c <= ' ' || c >= 0x7f }) {
		d.wrong(n, hint, "a URL, without blanks")
		return
	}
	if s[0] == '{' { // {target} may begin with //, which another host would follow
		d.rep.Add(n.Pos, hint, "a location that begins with what the client says")
		return
	}
	for rest := s; rest != ""; {
		before, after, found := strings.Cut(rest, "{")
		if before != "" {
			r.Location = append(r.Location, LocationPart{Text: before})
		}
		if !found {
			break
		}
		name, behind, closed := strings.Cut(after, "}")
		if !closed || name != "host" && name != "target" {
			d.rep.Add(n.Pos, hint, "{%s is no part of a request: there are {host} and {target}", after[:min(len(after), 20)])
			return
		}
		r.Location = append(r.Location, LocationPart{Of: name})
		rest = behind
	}
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
