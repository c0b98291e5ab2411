package main

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func TestReplaceMarked(t *testing.T) {
	const text = "before\n<!-- bench:goals -->\nold\n<!-- /bench -->\nbetween\n<!-- bench:all -->\n<!-- /bench -->\nafter\n"
	got, err := replaceMarked(text, "goals", "\nnew\n")
	if want := strings.Replace(text, "old", "new", 1); err != nil || got != want {
		t.Errorf("%q, %v", got, err)
	}
	got, err = replaceMarked(text, "all", "new")
	if want := strings.Replace(text, "all -->\n", "all -->\nnew\n", 1); err != nil || got != want {
		t.Errorf("%q, %v", got, err)
	}
	again, err := replaceMarked(got, "all", "new")
	if err != nil || again != got {
		t.Errorf("%q, %v", again, err)
	}
	for bad, want := range map[string]string{
		"nothing":                  "there is no",
		"<!-- bench:goals --> old": "has no <!-- /bench -->",
		"<!-- bench:goals --> old <!-- /bench --> <!-- bench:goals --> <!-- /bench -->": "twice",
	} {
		if _, err := replaceMarked(bad, "goals", "new"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// The marks are where -update looks for them.
func TestDocumentHasMarks(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", document))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := replaceMarked(string(text), "all", ""); err != nil {
		t.Errorf("%s: %v", document, err)
	}
}

func TestReportGoesRound(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bench.json")
	if r, err := readReport(path); r != nil || err != nil {
		t.Errorf("%v, %v of no file", r, err)
	}
	r := &report{Machine: "2 CPUs", Versions: []string{"nginx 1"}}
	for _, load := range []string{"churn", "kept"} {
		one := &result{Load: load, Rounds: 2, Contenders: []string{ours}, Failed: map[string]string{"h2o": "no"}}
		one.add(ours, []reading{{cpuOfRequest, "µs", 1.25, false}})
		one.add(ours, []reading{{cpuOfRequest, "µs", 1.5, false}})
		r.put(one)
	}
	if r.Results[0].Load != "kept" {
		t.Error("the order isn't that of the loads")
	}
	if err := r.write(path); err != nil {
		t.Fatal(err)
	}
	got, err := readReport(path)
	if err != nil || !reflect.DeepEqual(got, r) {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestMeasuredAnew(t *testing.T) {
	earlier := &report{Machine: "2 CPUs", Versions: []string{"nginx 1"}, Results: []*result{{Load: "kept"}, {Load: "bulk", Rounds: 1}}}
	r := &report{Machine: "2 CPUs", Versions: []string{"nginx 1", "h2o 2"}}
	if err := r.merge(earlier); err != nil || len(r.Versions) != 2 {
		t.Fatal(r, err)
	}
	r.put(&result{Load: "bulk", Rounds: 2})
	if len(r.Results) != 2 || r.result("bulk").Rounds != 2 {
		t.Errorf("%+v", r.Results)
	}
	if err := (&report{Machine: "4 CPUs"}).merge(earlier); err == nil || !strings.Contains(err.Error(), "another machine") {
		t.Error(err)
	}
}
