package config

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestDocs: every key that the decoder knows stands in the reference and in
// the annotated example, there possibly in a comment; and the example parses
// on any machine.
func TestDocs(t *testing.T) {
	doc := read(t, "../../docs/CONFIGURATION.md")
	example := read(t, "../../deploy/reuseportd.yaml")
	for _, s := range schemas() {
		for _, key := range s.keys {
			full := strings.TrimPrefix(s.at+"."+key, ".")
			if !strings.Contains(doc, "\n| `"+full+"` |") {
				t.Errorf("docs/CONFIGURATION.md has no row for %s", full)
			}
			if !regexp.MustCompile(`(?m)^[ #-]*([{].*)?\b` + key + `:`).MatchString(example) {
				t.Errorf("deploy/reuseportd.yaml has no %s", full)
			}
		}
	}
	for row := range strings.Lines(doc) {
		if m := regexp.MustCompile("^\\| `([^`]+)` \\|").FindStringSubmatch(row); m != nil && !known(m[1]) {
			t.Errorf("docs/CONFIGURATION.md has a row for %s, which is no key", m[1])
		}
	}
	h := thisHost()
	h.euid, h.lowPort = 0, func() int { return 1 } // also when the tests don't run as root
	if c, err := parseOn(h, example); err != nil {
		t.Error(err)
	} else if err := c.check(); err != nil {
		t.Error(err)
	}
}

func known(full string) bool {
	for _, s := range schemas() {
		for _, key := range s.keys {
			if full == strings.TrimPrefix(s.at+"."+key, ".") {
				return true
			}
		}
	}
	return false
}

func read(t *testing.T, path string) string {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}
