package proxy

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"

	"reuseportd/internal/pack"
)

// What a release has written of a connection to a server is read for ever, and written as it was.
func TestFormsOfReleases(t *testing.T) {
	text, err := os.ReadFile("testdata/formats/" + kindServer)
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		var n int
		var state string
		if _, err := fmt.Sscanf(line, "%d %q", &n, &state); err != nil {
			t.Fatal(err)
		}
		var u use
		r := pack.Reading([]byte(state))
		if u.record(r); r.End() != nil || string(u.upstream) != "app" || len(u.server) == 0 {
			t.Errorf("%q: %v, %+v", state, r.End(), u)
		}
		w := pack.Writing(nil)
		if u.record(w); !bytes.Equal(w.Written(), []byte(state)) {
			t.Errorf("%q is written as %q", state, w.Written())
		}
		seen++
	}
	if seen < 2 {
		t.Errorf("%d states", seen)
	}
}
