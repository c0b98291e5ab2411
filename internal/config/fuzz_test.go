package config

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"
)

// FuzzParse: whatever the bytes, Parse ends soon and doesn't panic; a refusal
// points at places that exist; what is accepted keeps every promise, and
// parses the same in a worker.
func FuzzParse(f *testing.F) {
	f.Add(defaultYAML)
	for _, name := range []string{"testdata/good/everything.yaml", "../../deploy/reuseportd.yaml"} {
		raw, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Add([]byte("upstreams: [{name: a, tls: , servers: [{address: 127.0.0.1:1}]}]\nlisteners:\n  - {name: w, address: 127.0.0.1:2, tcp: {sni: {a.example: b}}}\n"))
	files, _ := filepath.Glob("testdata/bad/*.txtar")
	for _, file := range files {
		ar, err := txtar.ParseFile(file)
		if err != nil {
			f.Fatal(err)
		}
		for _, one := range ar.Files {
			if filepath.Ext(one.Name) == ".yaml" {
				f.Add(one.Data)
			}
		}
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		begin := time.Now()
		before := bytes.Clone(raw)
		c, err := parse("web.yaml", raw, testHost())
		if took := time.Since(begin); took > 10*time.Second {
			t.Errorf("%d bytes took %s", len(raw), took)
		}
		if !bytes.Equal(raw, before) {
			t.Error("the input was changed")
		}
		if err != nil {
			checkErrors(t, raw, err)
			return
		}
		if err := c.check(); err != nil {
			t.Error(err)
		}
		again, err := ParseTrusted("web.yaml", raw)
		if err != nil || again.SHA256 != c.SHA256 || len(again.Listeners) != len(c.Listeners) {
			t.Errorf("a worker sees something else: %v", err)
		}
	})
}
