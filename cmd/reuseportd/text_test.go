package main

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"reuseportd/internal/control"
)

var update = flag.Bool("update", false, "write the golden files anew")

// golden compares a text with the file that holds what it should be.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", "golden", name+".txt")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s:\ngot:\n%s\nwant:\n%s", path, got, want)
	}
}

var noon = time.Date(2026, 11, 24, 12, 0, 0, 0, time.Local)

func before(d time.Duration) time.Time { return noon.Add(-d) }

func at(t time.Time) *time.Time { return &t }

func busyStatus() *control.Status {
	deadline := noon.Add(20 * time.Second)
	retry := noon.Add(3 * time.Second)
	return &control.Status{
		Version: "1.2", PID: 100, Started: before(90 * time.Minute), Generation: 8, NoFile: 20000,
		Config: control.ConfigInfo{
			Path: "/etc/r.yaml", SHA256: "0123456789abcdef", Loaded: before(10 * time.Second),
			Error: "/etc/r.yaml:1:1: unknown key \"x\"\n    x: 1\n    ^\n",
		},
		Change: "reload",
		Listeners: []control.Listener{
			{Name: "web", Network: "tcp4", Address: "127.0.0.1:80", Service: "http", Accept: "reuseport", Steering: "hash", SteeringNote: "this process has no CAP_BPF: operation not permitted", Shards: 4, Retiring: 2, Queued: 3},
			{Network: "unix", Address: "/run/e.sock", Service: "echo", Accept: "exclusive", Shards: 1, Retiring: 1},
		},
		Upstreams: []control.Upstream{
			{Name: "app", Balance: "round_robin", Sessions: 1060, TurnedAway: 7, Retries: 12, DNSFailures: 1, Servers: []control.Server{
				{Address: "10.0.0.1:8080", State: "up", Since: at(before(time.Hour)), Weight: 3, InUse: 12, MaxConnections: 100, Sessions: 1000, Full: 2, ChecksOK: 700, ChecksFailed: 4},
				{Address: "10.0.0.2:8080", State: "ejected", Since: at(before(2 * time.Second)), Until: &deadline, Weight: 1, Sessions: 60, Failures: map[string]uint64{"connection refused": 11, "connect timed out": 1}, Ejections: 2},
				{Address: "10.0.0.7:80", Name: "app.internal:80", State: "down", Since: at(before(time.Minute)), Weight: 1, Backup: true},
				{Name: "other.internal:80", State: "unresolved", Weight: 1},
			}},
			{Name: "db", Balance: "hash", Servers: []control.Server{{Address: "/run/db.sock", State: "up", Weight: 1, InUse: 1, Sessions: 1}}},
		},
		Groups: []control.Generation{
			{ID: 7, State: "draining", Since: before(10 * time.Second), Deadline: &deadline, Workers: []control.Worker{
				{PID: 101, Slot: 1, Slots: 1, State: "draining", Since: before(10 * time.Second), Connections: 2, Totals: control.Totals{Accepted: 1000, Requests: 5000}},
			}},
			{ID: 8, State: "serving", Since: before(10 * time.Second), Workers: []control.Worker{
				{PID: 102, Slot: 0, Slots: 2, State: "serving", Since: before(10 * time.Second), Connections: 20, Totals: control.Totals{Accepted: 30, Requests: 40}},
				{Slot: 2, Slots: 2, State: "backoff", Since: before(1500 * time.Millisecond), Restarts: 3, RetryAt: &retry, LastError: "exit status 2:\n  panic"},
			}},
		},
		Totals:     control.Totals{Accepted: 1030, Requests: 5040, BytesIn: 1, BytesOut: 2, Finished: 9, Cut: 1, AcceptPaused: 3, AcceptNoFD: 1, Panics: 2, LogDropped: 5},
		Log:        &control.Log{Dropped: 12, Stalled: at(before(4 * time.Second))},
		Waiting:    []string{"reading /mnt/r.yaml and looking at what it names, for 3s"},
		LastChange: &control.Receipt{Action: "upgrade", Cause: "command", Error: "child pid=7 exited: exit status 3", Started: before(time.Minute), ReadyMS: 12.3},
	}
}

func TestStatusText(t *testing.T) {
	var b bytes.Buffer
	printStatus(&b, busyStatus(), noon)
	golden(t, "status", b.String())
}

// A quiet service has no notes, and no blanks where they would be.
func TestQuietStatusText(t *testing.T) {
	st := &control.Status{
		Version: "1.2", PID: 100, Started: before(2 * time.Second), Generation: 1, NoFile: 20000,
		Config:    control.ConfigInfo{SHA256: "0123456789abcdef", Loaded: before(2 * time.Second)},
		Listeners: []control.Listener{{Name: "web", Network: "tcp4", Address: "127.0.0.1:80", Service: "http", Accept: "reuseport", Steering: "load", Shards: 1}},
		Groups: []control.Generation{{ID: 1, State: "serving", Workers: []control.Worker{
			{PID: 101, Slots: 1, State: "serving", Since: before(2 * time.Second)},
		}}},
		LastChange: &control.Receipt{Action: "start", Cause: "start", OK: true, Started: before(2 * time.Second), ReadyMS: 41.5, Cut: 0},
	}
	var b bytes.Buffer
	printStatus(&b, st, noon)
	golden(t, "quiet", b.String())
}

func TestCheckText(t *testing.T) {
	var b bytes.Buffer
	printChecked(&b, "r.yaml", verdict{SHA256: "0123456789abcdef", Workers: 1, Threads: 2, Listeners: []listenerChoice{
		{Name: "web", Service: "http", Address: "127.0.0.1:80", Accept: "reuseport"},
		{Name: "e", Service: "echo", Address: "/run/e.sock", Accept: "exclusive"},
	}})
	golden(t, "check", b.String())
}

func TestBanner(t *testing.T) {
	golden(t, "banner", banner(busyStatus(), "/tmp/x"))
	st := busyStatus()
	st.RuntimeDir = &control.RuntimeDir{Path: "/tmp/x", Unsafe: true}
	if text := banner(st, "/tmp/x"); !strings.Contains(text, "reuseportd stop --runtime-dir /tmp/x --unsafe-runtime-dir ") {
		t.Errorf("a command that would be refused is advised:\n%s", text)
	}
}

func TestReceiptTexts(t *testing.T) {
	golden(t, "reload", receiptText(&control.Receipt{
		Action: "reload", OK: true, Generation: 8, Previous: 7, ReadyMS: 71.6, ConfigSHA256: "0123456789", Coalesced: 2, HandedOver: 3, Cut: 1,
	}))
	golden(t, "upgrade", receiptText(&control.Receipt{
		Action: "upgrade", OK: true, Generation: 9, Previous: 8, ReadyMS: 99.2, ConfigSHA256: "0123456789", PID: 200, Version: "1.3",
	}))
	golden(t, "late", receiptText(&control.Receipt{
		Action: "upgrade", Generation: 8, Previous: 8, ReadyMS: 1.44, Error: "child pid=7 exited: exit status 3",
	}))
	golden(t, "failed", receiptText(&control.Receipt{
		Action: "reload", Generation: 8, Previous: 8, Error: "/etc/r.yaml:1:1: unknown key \"x\"\n    x: 1\n    ^",
	}))
}

// What is remarkable about the runtime directory is said, and nothing else.
func TestRuntimeDirText(t *testing.T) {
	now := time.Now()
	at := now.Add(-3 * time.Second)
	for want, d := range map[string]*control.RuntimeDir{
		"": {Path: "/run/rp"},
		"UNSAFE runtime directory /run/rp: it is used unchecked (--unsafe-runtime-dir)\n":  {Path: "/run/rp", Unsafe: true},
		"made anew 3s ago in the runtime directory, where somebody had removed it: lock\n": {Remade: "lock", RemadeAt: &at},
		"LOST in the runtime directory: runtime directory /run/rp: permission denied\n":    {Problem: "runtime directory /run/rp: permission denied"},
	} {
		var b strings.Builder
		printRuntimeDir(&b, d, now)
		if b.String() != want {
			t.Errorf("got %q, want %q", b.String(), want)
		}
	}
	printRuntimeDir(new(strings.Builder), nil, now) // an older master's
}

// What workers are kept in is said in words, once for all that are kept alike.
func TestSandboxText(t *testing.T) {
	kept := &control.Sandbox{UID: 65534, GID: 65534, NoNewPrivs: true, Seccomp: true, Landlock: 7, Bounding: "0000000000000000"}
	root, user := *kept, *kept
	root.UID, root.GID, root.Bounding = 0, 0, "0000000000000006"
	user.Landlock, user.Bounding = 0, "000001fffeffffff"
	const nobody = "uid 65534, gid 65534, seccomp, Landlock (ABI 7), no_new_privs, no capability can be had\n"
	for _, c := range []struct {
		want    string
		workers []control.Worker
	}{
		{"", []control.Worker{{PID: 7}}}, // of an older release
		{"workers: " + nobody, []control.Worker{{PID: 7, Sandbox: kept}, {PID: 8, Sandbox: kept}}},
		{
			"workers 7: " + nobody +
				"workers 8: uid 0, gid 0, seccomp, Landlock (ABI 7), no_new_privs, no capability can be had but DAC_OVERRIDE and DAC_READ_SEARCH\n",
			[]control.Worker{{PID: 7, Sandbox: kept}, {PID: 8, Sandbox: &root}},
		},
		{
			"workers: uid 65534, gid 65534, seccomp, Landlock OFF, no_new_privs, 40 capabilities in the bounding set\n",
			[]control.Worker{{PID: 7, Sandbox: &user}},
		},
		{"workers: at most 64MiB of memory each\n", []control.Worker{{PID: 7, MaxMemory: 64 << 20}, {PID: 8, MaxMemory: 64 << 20}}},
	} {
		var b strings.Builder
		printSandbox(&b, &control.Status{Groups: []control.Generation{{Workers: c.workers}}})
		if b.String() != c.want {
			t.Errorf("got\n%swant\n%s", b.String(), c.want)
		}
	}
}

func TestTimeoutFlag(t *testing.T) {
	var out, errOut strings.Builder
	if got := execute([]string{"status", "--timeout=-1s", "--runtime-dir", t.TempDir()}, &out, &errOut); got != exitUsage ||
		!strings.Contains(errOut.String(), "can't be negative") {
		t.Errorf("status %d, %s", got, errOut.String())
	}
}
