package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/pprof/profile"
)

// stack is a profile of one stack, innermost function first, by two addresses of a line.
func stack(address uint64, value int64, names ...string) *profile.Profile {
	p := &profile.Profile{
		SampleType: []*profile.ValueType{{Type: "samples", Unit: "count"}, {Type: "cpu", Unit: "nanoseconds"}},
		PeriodType: &profile.ValueType{Type: "cpu", Unit: "nanoseconds"}, Period: 1,
		Mapping: []*profile.Mapping{{ID: 1, Start: 1, Limit: 1 << 20, File: "/tmp/x"}},
		Sample:  []*profile.Sample{{Value: []int64{value, value * 100}, Label: map[string][]string{"k": {"v"}}}},
	}
	for i, name := range names {
		f := &profile.Function{ID: uint64(i + 1), Name: name, SystemName: name, Filename: name + ".go", StartLine: 1}
		l := &profile.Location{ID: f.ID, Address: address + uint64(i), Mapping: p.Mapping[0], Line: []profile.Line{{Function: f, Line: 7}}}
		p.Function, p.Location = append(p.Function, f), append(p.Location, l)
		p.Sample[0].Location = append(p.Sample[0].Location, l)
	}
	return p
}

func TestWriteProfile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.pgo")
	size, err := writeProfile(path, []*profile.Profile{
		stack(100, 3, "parse", "run"), stack(200, 4, "parse", "run"),
		stack(100, 20, "internal/runtime/syscall/linux.Syscall6", "run"),
	})
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil || len(data) != size {
		t.Fatalf("%d bytes, told %d: %v", len(data), size, err)
	}
	p, err := profile.ParseData(data)
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]int64)
	for _, s := range p.Sample {
		got[s.Location[0].Line[0].Function.Name] += s.Value[1]
		if len(s.Label) > 0 || s.Location[0].Line[0].Function.StartLine != 1 {
			t.Errorf("sample %v", s)
		}
	}
	if got["parse"] != 700 || got["internal/runtime/syscall/linux.Syscall6"] != 200 || len(p.Sample) != 2 || len(p.Mapping) != 0 {
		t.Errorf("samples %v in %d, mappings %v", got, len(p.Sample), p.Mapping)
	}
}
