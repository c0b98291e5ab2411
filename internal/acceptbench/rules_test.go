package acceptbench

import (
	"math"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"reuseportd/internal/control"
	"reuseportd/internal/rig"
)

func TestDiffer(t *testing.T) {
	base := rig.SpreadOf([]float64{100, 110, 120})
	for _, test := range []struct {
		values []float64
		want   Verdict
		text   string
	}{
		{[]float64{120, 130, 140}, Noise, "≈"}, // they touch
		{[]float64{80, 90, 100}, Noise, "≈"},
		{[]float64{105, 106, 107}, Noise, "≈"}, // one within the other
		{[]float64{10, 130, 300}, Noise, "≈"},
		{[]float64{121, 132, 140}, Differs, "+20%"},
		{[]float64{50, 55, 99}, Differs, "-50%"},
		{[]float64{500, 500}, Unknown, "?"}, // too few
		{nil, Unknown, "?"},
	} {
		if d := differ(base, rig.SpreadOf(test.values)); d.Verdict != test.want || d.String() != test.text {
			t.Errorf("%v: %+v, %s, want %s", test.values, d, d, test.text)
		}
	}
	if d := differ(rig.SpreadOf([]float64{0, 0, 0}), rig.SpreadOf([]float64{0, 0, 0})); d.Percent != 0 || d.Verdict != Noise {
		t.Errorf("zero and zero: %+v", d)
	}
}

func TestLimits(t *testing.T) {
	for _, test := range []struct {
		name                    string
		cpus, loops, threads    int
		server, generator, idle float64
		want                    Limit
	}{
		{"the server has all it can use", 8, 1, 8, 95, 60, 640, NoLimit},
		{"two loops on their CPUs", 2, 2, 2, 185, 10, 0, NoLimit},
		{"more loops than CPUs", 2, 8, 2, 185, 10, 0, NoLimit},
		{"one generator thread at its end", 8, 4, 1, 120, 97, 580, Generator},
		{"shared by both", 2, 2, 2, 110, 85, 5, Machine},
		{"another program runs", 2, 2, 2, 80, 60, 20, Others},
		{"much is left", 8, 4, 8, 100, 100, 590, Clients},
	} {
		if got := limit(test.cpus, test.loops, test.threads, test.server, test.generator, test.idle); got != test.want {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
	for _, test := range []struct {
		seconds, rate, done, late, latency float64
		want                               Limit
	}{
		{1, 1000, 999, 50, 400, NoLimit},
		{1, 1000, 960, 50, 400, Behind},
		{1, 1000, 999, 300, 400, Late},
		{0.5, 10, 6, 50, 400, NoLimit}, // 3 of 5: the ends of a window
		{0.5, 10, 2, 50, 400, Behind},
	} {
		if got := pacedLimit(test.seconds, test.rate, test.done, test.late, test.latency); got != test.want {
			t.Errorf("%+v: %q", test, got)
		}
	}
	for _, l := range []Limit{Generator, Machine, Others, Clients, Behind, Late} {
		if limitTexts[l] == "" {
			t.Errorf("%s has no words", l)
		}
	}
}

func TestMetrics(t *testing.T) {
	w := window{
		seconds: 2, done: 1000, serverCPU: time.Second, genCPU: 500 * time.Millisecond, idle: 2 * time.Second, switches: 300,
		counted: 4, counts: Counts{Accepted: 1000, Empty: 40, Failed: 2, Wakeups: 200, Vain: 50},
		workers: []WorkerCounts{{0, Counts{Accepted: 250}}, {1, Counts{Accepted: 750}}},
		latency: percentiles{1, 2, 3}, latencies: 9, late: 4,
	}
	want := map[string]float64{
		"rate": 500, "cpu_us": 1000, "cpu_percent": 50, "switches": 150, "wakeups": 50, "accepts": 250, "failed_accepts": 10.5,
		"useful_percent": 75, "p50_us": 1, "p99_us": 2, "p999_us": 3, "late_us": 4, "generator_percent": 25, "idle_percent": 100,
		"least_share": 25, "most_share": 75, "variation": 0.5,
	}
	for _, m := range metrics {
		if got, ok := m.of(&w); !ok || math.Abs(got-want[m.key]) > 1e-9 {
			t.Errorf("%s is %v, want %v", m.key, got, want[m.key])
		}
		if v, ok := m.of(&window{}); ok && (math.IsNaN(v) || math.IsInf(v, 0)) {
			t.Errorf("%s of nothing is %v, which JSON can't hold", m.key, v)
		} else if ok {
			t.Errorf("%s of nothing is %v", m.key, v)
		}
	}
	if len(want) != len(metrics) {
		t.Errorf("%d metrics, %d tested", len(metrics), len(want))
	}
}

func TestQuarterOf(t *testing.T) {
	for rate, want := range map[float64]int{24111: 6000, 25999: 6500, 0: 1, 50: 13, 401: 100, 1e6: 250000} {
		if got := quarterOf(rate); got != want {
			t.Errorf("%v: %d, want %d", rate, got, want)
		}
	}
}

func TestDirectoryIsShortEnough(t *testing.T) {
	const rest = len("/00000/run/control.sock")
	if err := checkDir("/" + strings.Repeat("x", 106-rest)); err != nil {
		t.Error(err)
	}
	if err := checkDir("/" + strings.Repeat("x", 107-rest)); err == nil || !strings.Contains(err.Error(), "would have 108 bytes, and 107 are the most: set a shorter TMPDIR") {
		t.Error(err)
	}
}

func TestProcFiles(t *testing.T) {
	if n := parseSwitches("Name:\tx\nvoluntary_ctxt_switches:\t12\nnonvoluntary_ctxt_switches:\t30\n"); n != 42 {
		t.Errorf("%d switches", n)
	}
	var cpus unix.CPUSet
	cpus.Set(0)
	cpus.Set(2)
	const stat = "cpu  10 20 30 700 90 6 7 8 9 10\ncpu0 1 2 3 400 50 6\ncpu1 1 2 3 200 30 6\ncpu2 1 2 3 100 10 6\nintr 1 2 3 4 5 6\n"
	if d := parseIdle(stat, &cpus); d != 5600*time.Millisecond {
		t.Errorf("%v idle", d)
	}
	if parseIdle("", &cpus) != 0 || parseSwitches("") != 0 || taskCPU("/none") != 0 {
		t.Error("something comes of nothing")
	}
	u := usageOf([]int{1})
	if u.generator == 0 || u.at.IsZero() {
		t.Errorf("%+v", u)
	}
}

func TestSnapshots(t *testing.T) {
	status := func(pid int, accepted uint64) *control.Status {
		worker := control.Worker{PID: pid, State: "serving", Totals: control.Totals{
			Accepted: accepted, Requests: 2 * accepted, AcceptErrors: 1, AcceptNoFD: 2, AcceptEmpty: 3, Wakeups: 9, WakeupsVain: 4,
		}}
		gone := control.Worker{PID: 7, State: "backoff"}
		return &control.Status{PID: 1, Groups: []control.Generation{{State: "serving", Workers: []control.Worker{worker, gone}}}}
	}
	first, last := snapshotOf(status(5, 100)), snapshotOf(status(5, 150))
	d, err := last.since(first)
	if err != nil || len(d) != 1 || d[0].Counts != (Counts{Accepted: 50, Requests: 100}) {
		t.Errorf("%+v, %v", d, err)
	}
	if total := total(last.workers); total != (Counts{Accepted: 150, Requests: 300, Empty: 3, Failed: 3, Wakeups: 9, Vain: 4}) {
		t.Errorf("%+v", total)
	}
	if _, err := snapshotOf(status(6, 150)).since(first); err == nil || !strings.Contains(err.Error(), "worker 5 has been replaced") {
		t.Error(err)
	}
	if _, err := (snapshot{pids: []int{1}}).since(first); err == nil {
		t.Error("a lost worker is no error")
	}
}

// However a stall ends, its process goes on.
func TestStallLeavesTheProcessRunning(t *testing.T) {
	cmd := exec.Command("cat")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stop, err := stall(t.Context(), cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	_ = in.Close()
	if err := cmd.Wait(); err != nil { // a stopped cat would never end
		t.Error(err)
	}
	if _, err := stall(t.Context(), cmd.Process.Pid); err == nil {
		t.Error("stopping nobody is no error")
	}
}
