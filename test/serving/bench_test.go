package serving

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"reuseportd/internal/acceptbench"
	"reuseportd/test/harness"
)

// bench is one `reuseportd bench accept`, with a directory of its own for
// temporary files, by which its processes are known.
type bench struct {
	*exec.Cmd
	t           *testing.T
	dir         string
	workers     map[int]bool // that have been seen
	out, errOut bytes.Buffer
}

func newBench(t *testing.T, args ...string) *bench {
	t.Helper()
	dir, err := os.MkdirTemp("", "rb") // short, for the paths of Unix sockets
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{t: t, dir: dir, workers: make(map[int]bool)}
	b.Cmd = exec.Command(harness.Build(t), append([]string{"bench", "accept"}, args...)...)
	b.Env = append(os.Environ(), "TMPDIR="+dir, "REUSEPORTD_BENCH="+dir, "GORACE=atexit_sleep_ms=0")
	b.Stdout, b.Stderr = &b.out, &b.errOut
	t.Cleanup(func() {
		for _, pid := range b.processes() {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		_ = os.RemoveAll(dir)
	})
	return b
}

// processes are the bench's and its servers', but for those that have exited. Workers have another environment: they are
// known by their parent, a master, and from then on also without it.
func (b *bench) processes() (pids []int) {
	paths, _ := filepath.Glob("/proc/[0-9]*")
	ours, all := make(map[int]bool), make(map[int]harness.Process)
	for _, path := range paths {
		var pid int
		_, _ = fmt.Sscan(filepath.Base(path), &pid)
		env, _ := os.ReadFile(path + "/environ")
		p, err := harness.ReadProcess(pid)
		if err != nil || p.State == 'Z' || p.State == 'X' {
			continue
		}
		all[pid] = p
		ours[pid] = bytes.Contains(append(env, 0), []byte("REUSEPORTD_BENCH="+b.dir+"\x00"))
	}
	for pid, p := range all {
		if b.workers[pid] = b.workers[pid] || ours[p.PPID]; ours[pid] || b.workers[pid] {
			pids = append(pids, pid)
		}
	}
	return pids
}

// checkNothingLeft is for a bench that has ended.
func (b *bench) checkNothingLeft() {
	b.t.Helper()
	if pids := b.processes(); len(pids) > 0 {
		b.t.Errorf("left behind: processes %v", pids)
	}
	if entries, err := os.ReadDir(b.dir); err != nil || len(entries) > 0 {
		b.t.Errorf("left behind: files %v, %v", entries, err)
	}
}

// waitStopped waits until the bench has stopped a worker.
func (b *bench) waitStopped() {
	b.t.Helper()
	harness.Wait(b.t, "a stopped worker", func() bool {
		for _, pid := range b.processes() {
			if p, err := harness.ReadProcess(pid); err == nil && p.State == 'T' {
				return true
			}
		}
		return false
	})
}

func TestBenchCountsWhatItDoes(t *testing.T) {
	plot := filepath.Join(t.TempDir(), "plot.svg")
	b := newBench(t, "--json", "--only=reuseport,mutex", "--models=processes,threads", "--loops=2",
		"--rounds=1", "--duration=200ms", "--rate=200", "--connections=8", "--plot", plot)
	if err := b.Run(); err != nil {
		t.Fatalf("%v\n%s", err, b.errOut.String())
	}
	b.checkNothingLeft()
	var r acceptbench.Result
	if err := json.Unmarshal(b.out.Bytes(), &r); err != nil {
		t.Fatal(err)
	}
	if len(r.Cases) != 4 {
		t.Fatalf("%d cases", len(r.Cases))
	}
	for _, c := range r.Cases {
		for name, l := range map[string]*acceptbench.LoadResult{"churn": c.Churn, "kept": c.Kept, "paced": c.Paced} {
			if l.Load.Failed > 0 || l.Load.Lost > 0 || l.Load.Answered == 0 {
				t.Errorf("%s %s, %s: %+v", c.Name, c.Model, name, l.Load)
			}
			if l.Server.Accepted != l.Load.Connects || l.Server.Requests != l.Load.Answered {
				t.Errorf("%s %s, %s: the load did %+v, the server counted %+v", c.Name, c.Model, name, l.Load, l.Server)
			}
			if (name == "kept") != (l.Load.Connects == 8) || len(l.Workers) != c.Workers {
				t.Errorf("%s %s, %s: %+v, %d workers", c.Name, c.Model, name, l.Load, len(l.Workers))
			}
			if f := l.Figures; f["cpu_us"].Median <= 0 || f["rate"].Median <= 0 || f["p99_us"].Median < f["p50_us"].Median {
				t.Errorf("%s %s, %s: %v", c.Name, c.Model, name, f)
			}
		}
	}
	if svg, err := os.ReadFile(plot); err != nil || !bytes.Contains(svg, []byte("</svg>")) {
		t.Errorf("the drawing: %s, %v", svg, err)
	}
}

// An interrupt in the middle, while a worker is stopped, leaves nothing.
func TestBenchInterrupted(t *testing.T) {
	b := newBench(t, "--steering", "--only=hash", "--rate=100", "--duration=60s")
	if err := b.Start(); err != nil {
		t.Fatal(err)
	}
	b.waitStopped()
	if err := b.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	_ = b.Wait() // its status is looked at
	if code := b.ProcessState.ExitCode(); code != 130 || !strings.Contains(b.errOut.String(), "interrupted") || b.out.Len() > 0 {
		t.Errorf("exit status %d, %s%s", code, b.out.String(), b.errOut.String())
	}
	b.checkNothingLeft()
}

// A pipe that nobody reads any more ends it as an interrupt does.
func TestBenchWhoseProgressNobodyReads(t *testing.T) {
	b := newBench(t, "--steering", "--only=hash", "--rate=100", "--duration=1s", "--rounds=100")
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	b.Stderr = w
	if err := b.Start(); err != nil {
		t.Fatal(err)
	}
	_ = w.Close()
	if _, err := r.Read(make([]byte, 1)); err != nil { // it has begun
		t.Fatal(err)
	}
	_ = r.Close()
	_ = b.Wait() // its status is looked at
	if code := b.ProcessState.ExitCode(); code != 130 {
		t.Errorf("%v", b.ProcessState)
	}
	b.checkNothingLeft()
}

// What a reader of the table leaves unread doesn't keep it from being drawn; what
// can't be written is told.
func TestBenchWhoseTableNobodyReads(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	_ = r.Close()
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		out  *os.File
		code int
		text string
	}{{w, 141, ""}, {full, 1, "no space left"}} {
		plot := filepath.Join(t.TempDir(), "plot.svg")
		b := newBench(t, "--only=reuseport", "--models=single", "--rounds=1", "--duration=20ms", "--rate=200", "--plot", plot)
		b.Stdout = test.out
		_ = b.Run() // its status is looked at
		if code := b.ProcessState.ExitCode(); code != test.code || !strings.Contains(b.errOut.String(), test.text) {
			t.Errorf("%s: %v, %s", test.out.Name(), b.ProcessState, b.errOut.String())
		}
		if _, err := os.Stat(plot); err != nil {
			t.Error(err)
		}
		b.checkNothingLeft()
		_ = test.out.Close()
	}
}

// Of a bench that is killed only the directory stays: the kernel ends the
// master, and the master its workers, also the stopped one.
func TestBenchKilled(t *testing.T) {
	b := newBench(t, "--steering", "--only=hash", "--rate=100", "--duration=60s")
	b.Stdout, b.Stderr = io.Discard, io.Discard
	if err := b.Start(); err != nil {
		t.Fatal(err)
	}
	b.waitStopped()
	if err := b.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = b.Wait() // killed
	harness.Wait(t, "all its processes to end", func() bool { return len(b.processes()) == 0 })
}
