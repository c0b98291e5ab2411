package config

import (
	"path/filepath"
	"strings"
	"time"

	"reuseportd/internal/config/yaml"
)

// Files serves regular files below Root. The route's prefix is taken off the
// request's path: with path "/static/" and root "/srv/www", "/static/a.css" is
// "/srv/www/a.css".
type Files struct {
	Root string // absolute
	// RootPos is where it stands in the file.
	RootPos Position
	Index   string // file name served for a directory, "index.html" by default
	// Cache is how long a small file may be answered from memory without a look at the
	// disk; 0 is not at all.
	Cache time.Duration
}

var filesObject = object[Files]{at: "listeners[].http.routes[].files", what: "files", fields: []field[Files]{
	{"root", readRoot},
	{"index", readIndex},
	{"cache", durationInto(0, func(f *Files) *time.Duration { return &f.Cache })},
}}

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
