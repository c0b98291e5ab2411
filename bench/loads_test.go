package main

import (
	"context"
	"os"
	"slices"
	"strings"
	"testing"

	"reuseportd/internal/rig"
)

func TestChoose(t *testing.T) {
	if all, err := choose(""); err != nil || len(all) != len(loads)-1 { // not abreast
		t.Errorf("%d loads, %v", len(all), err)
	}
	if some, err := choose("latency, bulk"); err != nil || len(some) != 2 || some[0].name != "latency" || some[1].name != "bulk" {
		t.Errorf("%v, %v", some, err)
	}
	if apart, err := choose("abreast"); err != nil || len(apart) != 1 {
		t.Errorf("%d loads, %v", len(apart), err)
	}
	if _, err := choose("bulk,what"); err == nil {
		t.Error("what is no load")
	}
}

func TestTakers(t *testing.T) {
	all := []*contender{
		{Server: &rig.Server{Name: ours}, doors: map[door]string{doorSmall: "a", doorProxied: "b"}},
		{Server: &rig.Server{Name: "floor"}, doors: map[door]string{doorSmall: "c"}},
		{Server: &rig.Server{Name: direct}, doors: map[door]string{doorProxied: "d"}},
	}
	for name, want := range map[string]string{
		"kept": "reuseportd floor", "proxied": "reuseportd", "proxied-latency": "reuseportd direct", "bulk": "",
	} {
		l, err := choose(name)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, c := range l[0].takers(all) {
			got = append(got, c.Name)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %v, want %s", name, got, want)
		}
	}
}

// Servers with few descriptors are others than those of the same names that have many, and only lockout meets them.
func TestLimitedTakeNoOtherPart(t *testing.T) {
	made := func(_ context.Context, p place) (*contender, error) {
		s := &rig.Server{Name: ours, NoFile: p.nofile}
		return &contender{Server: s, doors: map[door]string{doorSmall: "a", doorChurn: "a"}}, nil
	}
	many, _ := made(t.Context(), place{})
	few, err := limited(made)(t.Context(), place{})
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range loads {
		for _, c := range l.takers([]*contender{many, few}) {
			if c.NoFile > 0 != (l.name == "lockout") {
				t.Errorf("%s is put on a server with a limit of %d", l.name, c.NoFile)
			}
		}
	}
	if got := loads[slices.IndexFunc(loads, func(l load) bool { return l.name == "lockout" })].takers([]*contender{few}); len(got) != 1 {
		t.Error("lockout is put on nobody")
	}
}

func TestPipelining(t *testing.T) {
	path, err := writeScript(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil || !strings.Contains(string(text), "for i = 1, 16 do all[i] = wrk.format() end") {
		t.Errorf("%s, %v", text, err)
	}
}

func TestParseIperf(t *testing.T) {
	got, err := parseIperf([]byte(`{"end":{"sum_sent":{"bytes":9},"sum_received":{"seconds":1.5,"bytes":3221225472,"sender":true}}}`))
	if want := (received{Bytes: 3 << 30, Seconds: 1.5}); err != nil || got != want {
		t.Errorf("%+v, %v", got, err)
	}
	for out, want := range map[string]string{
		`{"end":{},"error":"unable to connect to server: Connection refused"}`: "Connection refused",
		`{"end":{"sum_received":{"seconds":1,"bytes":0}}}`:                     "nothing was received",
		`iperf3: not JSON`: "invalid character",
	} {
		if _, err := parseIperf([]byte(out)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v of %s", err, out)
		}
	}
}
