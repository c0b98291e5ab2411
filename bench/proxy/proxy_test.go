package main

import (
	"strings"
	"testing"
)

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

func TestChoose(t *testing.T) {
	if all, err := choose(""); err != nil || len(all) != len(loads) {
		t.Errorf("%d loads, %v", len(all), err)
	}
	if some, err := choose("latency, bulk"); err != nil || len(some) != 2 || some[0].name != "latency" || some[1].name != "bulk" {
		t.Errorf("%v, %v", some, err)
	}
	if _, err := choose("bulk,what"); err == nil {
		t.Error("what is no load")
	}
}

func TestTable(t *testing.T) {
	cpu := newRow("CPU", "µs")
	cpu.beside = []string{"io.Copy"}
	rate := newRow("rate", "/s")
	rate.aside = true
	p50 := newRow("", "µs")
	for name, values := range map[string][]float64{
		"reuseportd": {4, 5, 6}, "nginx": {9, 10, 11}, "HAProxy": {8, 20, 30}, "io.Copy": {20}, direct: {1, 2, 3},
	} {
		for _, v := range values {
			cpu.add(name, v)
			rate.add(name, v)
			p50.add(name, v)
		}
	}
	got := table{ours: "reuseportd", rivals: []string{"nginx", "HAProxy", "not here"}}
	got.add([]row{cpu, rate, p50.over(direct, "added")})
	for _, line := range []string{
		"| CPU | µs | 5.00 (4.00…6.00) | 10.00 (9.00…11.00) | 20.00 (8.00…30.00) | – | 0.50 | io.Copy 20.00: 0.25 |",
		"| rate | /s | 5.00 (4.00…6.00) | 10.00 (9.00…11.00) | 20.00 (8.00…30.00) | – | – |  |",
		"| added | µs | 3.00 (3.00…3.00) | 8.00 (8.00…8.00) | 18.00 (7.00…27.00) | – | 0.38 | direct 2.00 (1.00…3.00) |",
	} {
		if !strings.Contains(got.text.String(), line+"\n") {
			t.Errorf("no line %s in\n%s", line, got.text.String())
		}
	}
}
