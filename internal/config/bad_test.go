package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"reuseportd/internal/config/yaml"
)

// TestBad replays testdata/bad: each archive holds configurations, NAME.yaml,
// and what a person reads about each, NAME.want. Write them anew with
//
//	go test ./internal/config -run TestBad -update
func TestBad(t *testing.T) {
	files, err := filepath.Glob("testdata/bad/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no archives: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) { replay(t, file) })
	}
}

func replay(t *testing.T, file string) {
	ar, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{}
	for _, f := range ar.Files {
		want[f.Name] = string(f.Data)
	}
	var fresh []txtar.File
	for _, f := range ar.Files {
		name, ok := strings.CutSuffix(f.Name, ".yaml")
		if !ok {
			continue
		}
		got := "accepted\n"
		if _, err := parseOn(testHost(), string(f.Data)); err != nil {
			got = err.Error() + "\n"
			checkErrors(t, f.Data, err)
		}
		fresh = append(fresh, f, txtar.File{Name: name + ".want", Data: []byte(got)})
		if got != want[name+".want"] && !*update {
			t.Errorf("%s:\n%s\ngot:\n%s\nwant:\n%s", name, f.Data, got, want[name+".want"])
		}
	}
	if *update {
		out := txtar.Format(&txtar.Archive{Comment: ar.Comment, Files: fresh})
		if err := os.WriteFile(file, out, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// checkErrors holds what every answer must have: places that exist and are in
// order, the line itself, one line each in a log, and a bound.
func checkErrors(t *testing.T, raw []byte, err error) {
	t.Helper()
	var errs Errors
	if !errors.As(err, &errs) || len(errs) == 0 || len(errs) > yaml.MaxErrors+1 {
		t.Fatalf("%T of %d", err, len(errs))
	}
	lines := yaml.Lines(raw)
	for i, e := range errs {
		if e.Line == 0 && i == yaml.MaxErrors {
			continue
		}
		if e.Line < 1 || e.Line > len(lines) || e.Source != lines[e.Line-1] || e.Column < 1 || e.Column > len([]rune(e.Source))+1 {
			t.Errorf("no such place: %+v", e)
		}
		if i > 0 && e.Line < errs[i-1].Line {
			t.Errorf("not in order: %v after %v", e, errs[i-1])
		}
		if strings.Contains(e.Message+e.Hint, "\n") {
			t.Errorf("more than one line: %q", e.Error())
		}
	}
}
