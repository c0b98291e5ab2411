package hostile

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"reuseportd/test/harness"
	"reuseportd/test/meter"
)

func TestMain(m *testing.M) {
	if text := os.Getenv(localEnv); text != "" {
		local(text)
		return
	}
	harness.Main(m)
}

// TestHostile plays for REUSEPORTD_HOSTILE, with the seed REUSEPORTD_HOSTILE_SEED.
func TestHostile(t *testing.T) {
	life, err := time.ParseDuration(os.Getenv("REUSEPORTD_HOSTILE"))
	if err != nil {
		t.Skip("REUSEPORTD_HOSTILE says how long to play, as 10m: make prove-hostile")
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root: it takes workers' descriptors, and plays other users")
	}
	seed, err := strconv.ParseUint(os.Getenv("REUSEPORTD_HOSTILE_SEED"), 10, 64)
	if err != nil {
		seed = uint64(time.Now().UnixNano())
	}
	fmt.Printf("seed %d for %v\n", seed, life)
	p := prepare(t, seed)
	began := time.Now()
	only := os.Getenv("REUSEPORTD_HOSTILE_ONLY") // one of hostiles, to look closer
	for n := 1; time.Since(began) < life && !t.Failed(); n++ {
		p.round(n, only)
	}
	took := time.Since(began)
	result := p.clients.Stop()
	p.judge(result)
	p.account.print(os.Stdout)
	fmt.Println(result)
	fmt.Printf("seed %d, %v: master at most %d KB and %d descriptors; status at most %v, %d of %d answered; log %d bytes, %.0f bytes/s, at most %.0f in a round\n",
		seed, took.Round(time.Second), p.worst.rss, p.worst.fds, p.worst.slowest.Round(time.Millisecond), p.worst.answered, p.worst.asked,
		p.log.seen, float64(p.log.seen)/took.Seconds(), p.log.highest)
	for _, f := range p.account.faults {
		t.Error(f)
	}
	p.s.Stop()
}

// play is one run.
type play struct {
	t         *testing.T
	r         *rand.Rand
	s         *harness.Server
	account   *account
	clients   *meter.Meter
	worst     worst
	log       watchLog
	null      int
	bystander int
}

func prepare(t *testing.T, seed uint64) *play {
	c := harness.Default(t).WithWorkers(3).With("user: nobody", "group: nogroup", "worker_timeout: 3s", "probation: 0s", "drain_timeout: 3s")
	p := &play{
		t: t, r: rand.New(rand.NewPCG(seed, 0)), s: harness.Start(t, c),
		account: &account{counts: make(map[string]int)},
	}
	p.log.path = p.s.LogPath
	var err error
	if p.null, err = unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(p.null) })
	sleeps := exec.Command("sleep", "1000000")
	sleeps.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65531, Gid: 65531}}
	if err := sleeps.Start(); err != nil {
		t.Fatal(err)
	}
	p.bystander = sleeps.Process.Pid
	t.Cleanup(func() { _ = sleeps.Process.Kill(); _ = sleeps.Wait() })
	p.clients, err = meter.Start(t.Context(), meter.Config{
		HTTP: c.Address("web"), Echo: c.Address("echo"), Paths: []string{"/", "/two"}, Seed: seed,
		Fresh: 2, Kept: 8, Halves: 4, Pipeline: 2, Stream: 4, Idle: 50, FreshRate: 50, KeptPause: 20 * time.Millisecond, Timeout: 15 * time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// mayLose begins the marks of rounds in which a worker is spoilt or killed.
const mayLose = "may lose: "

// judge wants nothing lost in rounds in which no worker was killed or spoilt.
func (p *play) judge(result *meter.Result) {
	told := make(map[string]bool)
	for _, l := range result.Losses {
		if strings.HasPrefix(l.Mark, mayLose) {
			p.account.count("lost: of a spoilt or killed worker")
			continue
		}
		p.account.count("lost: of nobody's")
		p.account.fault("%v", l)
		if !told[l.Mark] {
			told[l.Mark] = true
			p.account.fault("the log then:\n%s", p.logAround(l.Time))
		}
	}
	if harness.Gone(p.bystander) {
		p.account.fault("the bystander was ended")
	}
	for _, name := range strange(p.s) {
		p.account.fault("%s was written", name)
	}
	if p.worst.rss > maxRSS || p.worst.fds > maxFDs {
		p.account.fault("the master had %d KB and %d descriptors: %v", p.worst.rss, p.worst.fds, p.worst.open)
	}
}

// logAround returns what the server's log has of the three seconds around a time, without what
// is no trouble.
func (p *play) logAround(t time.Time) string {
	text, err := os.ReadFile(p.s.LogPath)
	if err != nil {
		return err.Error()
	}
	var lines []string
	for line := range strings.Lines(string(text)) {
		for d := -2 * time.Second; d <= time.Second; d += time.Second {
			if strings.Contains(line, t.Add(d).UTC().Format("15:04:05Z")) && !strings.Contains(line, `"level":"info"`) {
				lines = append(lines, line)
				break
			}
		}
	}
	return strings.Join(lines[max(0, len(lines)-40):], "")
}
