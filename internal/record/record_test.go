package record

import (
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"reuseportd/internal/memfd"
	"reuseportd/internal/rundir/rundirtest"
)

func sample() *Record {
	return &Record{
		LastID: 7, Seq: 9, Loaded: time.Unix(1, 0).UTC(), Ledger: Memory{1, 2, "x"},
		Groups: []Group{{Key: "tcp4!127.0.0.1:80", Cookies: []uint64{1 << 63, 2}}},
		Generations: []Generation{{
			ID: 7, State: "serving", Conf: []byte("{}"), SHA256: "00",
			Workers: []Worker{{Index: 0, Slots: []int{0, 1}, Page: 3, PID: 99, Start: 5}},
		}},
	}
}

func TestWriteAndLoad(t *testing.T) {
	dir := rundirtest.Open(t, t.TempDir())
	if _, err := Load(dir); !Missing(err) {
		t.Errorf("no record: %v", err)
	}
	text, err := sample().Text()
	if err != nil {
		t.Fatal(err)
	}
	if err := Write(dir, text); err != nil {
		t.Fatal(err)
	}
	r, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	if again, _ := r.Text(); string(again) != string(text) {
		t.Errorf("read %s, written %s", again, text)
	}
	if g := r.Group("tcp4!127.0.0.1:80"); g == nil || g.Cookies[0] != 1<<63 || r.Group("") != nil {
		t.Errorf("group %+v", g)
	}
	if err := Remove(dir); err != nil {
		t.Error(err)
	}
	if _, err := Load(dir); !Missing(err) {
		t.Errorf("removed: %v", err)
	}
}

func TestBounds(t *testing.T) {
	for name, spoil := range map[string]func(*Record){
		"last ID":            func(r *Record) { r.LastID = MaxNumber + 1 },
		"a newer one":        func(r *Record) { r.Generations[0].ID = 8 },
		"no ID":              func(r *Record) { r.Generations[0].ID = 0 },
		"a generation twice": func(r *Record) { r.Generations = append(r.Generations, r.Generations[0]) },
		"page":               func(r *Record) { r.Generations[0].Workers[0].Page = 1 << 40 },
		"the last page":      func(r *Record) { r.Generations[0].Workers[0].Page = 4095 },
		"slot":               func(r *Record) { r.Generations[0].Workers[0].Slots[0] = 1 << 61 },
		"a slot twice":       func(r *Record) { r.Generations[0].Workers[0].Slots[0] = 1 },
		"no slot":            func(r *Record) { r.Generations[0].Workers[0].Slots = nil },
		"PID":                func(r *Record) { r.Generations[0].Workers[0].PID = -1 },
	} {
		r := sample()
		spoil(r)
		text, _ := r.Text()
		if _, err := parse(text); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	if _, err := parse([]byte(strings.Replace(`{"version":1}`, "1", "2", 1))); err == nil {
		t.Error("another version: taken")
	}
}

func TestProcess(t *testing.T) {
	cmd := exec.Command("cat")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pid := cmd.Process.Pid
	start, err := StartTime(pid)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Find(pid, start+1); err == nil {
		t.Error("a process that began later is taken for it")
	}
	pidfd, err := Find(pid, start)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pidfd)
	if Ended(pidfd, 0) {
		t.Error("it has ended")
	}
	_ = in.Close()
	if !Ended(pidfd, time.Minute) {
		t.Error("it has not ended")
	}
	if _, err := Find(pid, start); err == nil {
		t.Error("a zombie is found")
	}
	_ = cmd.Wait()
}

func TestMemory(t *testing.T) {
	a, err := memfd.Sized("a", 4096)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(a)
	b, err := memfd.Sized("a", 4096)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(b)
	m, err := MemoryOf(a, "x")
	if err != nil {
		t.Fatal(err)
	}
	if !m.Is(a) || m.Is(b) || m.Is(-1) || (Memory{}).Is(a) {
		t.Error("memory is not told from other memory")
	}
	f, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if n, err := MemoryOf(int(f.Fd()), ""); err != nil || n.Is(int(f.Fd())) {
		t.Error("what is no memory is taken for it")
	}
}

// FuzzParse holds that whatever stands in the file, what is taken keeps its bounds.
func FuzzParse(f *testing.F) {
	text, _ := sample().Text()
	f.Add(text)
	f.Add([]byte(`{"version":1,"generations":[{"id":1}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := parse(text)
		if err == nil && r.check() != nil {
			t.Error("out of bounds")
		}
	})
}
