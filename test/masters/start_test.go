package masters

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"reuseportd/internal/control"
	"reuseportd/test/harness"
	"reuseportd/test/kit"
	"reuseportd/test/meter"
)

func TestStartsWithoutConfiguration(t *testing.T) {
	if !kit.Refused("127.0.0.1:8080") || !kit.Refused("127.0.0.1:7007") {
		t.Skip("the default addresses are in use on this machine")
	}
	s := harness.Prepare(t, harness.Config{})
	s.Run(harness.NoConfig)
	st := s.WaitServing(1)
	if got := kit.Body("127.0.0.1:8080"); !strings.Contains(got, "hello") {
		t.Errorf("the default listener answers %q", got)
	}
	conn := kit.Dial(t, "127.0.0.1:7007")
	conn.Echo("hello")
	conn.Close() // the stop below would wait for it
	if st.Config.Path != "" || st.Config.SHA256 == "" {
		t.Errorf("configuration %+v, want the embedded one", st.Config)
	}
	for _, word := range []string{"127.0.0.1:8080", "127.0.0.1:7007", "reload"} {
		s.WaitLog(word)
	}
	s.Stop()
	if !kit.Refused("127.0.0.1:8080") {
		t.Error("still listens after its end")
	}
}

func TestStatus(t *testing.T) {
	c := harness.Default(t)
	s := harness.Start(t, c)
	conn := kit.Dial(t, c.Address("web"))
	for range 3 {
		conn.Get()
	}
	st := s.WaitStatus("the requests to be counted", func(st *control.Status) bool { return st.Totals.Requests >= 3 })
	g := harness.Serving(st)
	if g == nil || g.ID != st.Generation || len(g.Workers) != 2 {
		t.Fatalf("no serving generation of two workers: %+v", st)
	}
	slots := map[int]bool{}
	var open uint64
	for _, w := range g.Workers {
		slots[w.Slot] = true
		open += w.Connections
		if p, err := harness.ReadProcess(w.PID); err != nil || p.PPID != st.PID {
			t.Errorf("worker %d is no child of the master %d: %+v %v", w.PID, st.PID, p, err)
		}
	}
	if !slots[0] || !slots[1] || open != 1 {
		t.Errorf("slots %v, %d connections; want 0 and 1, one connection", slots, open)
	}
	if st.Version != "test" || st.PID != s.FirstPID() || st.NoFile == 0 || len(st.Config.SHA256) != 64 ||
		st.Config.Path != s.ConfigPath || st.Started.IsZero() {
		t.Errorf("status lacks or mistakes something: %+v", st)
	}
	if len(st.Listeners) != 2 || harness.ListenerAt(st, c.Address("web")).Shards != 2 {
		t.Errorf("listeners %+v, want two with two shards each", st.Listeners)
	}
	if st.LastChange == nil || st.LastChange.Action != "start" || !st.LastChange.OK {
		t.Errorf("last change %+v, want a start", st.LastChange)
	}

	human := s.CLI("status")
	if human.Code != 0 {
		t.Errorf("status ends with %d: %s", human.Code, human.Stderr)
	}
	for _, w := range g.Workers {
		if !strings.Contains(human.Stdout, strconv.Itoa(w.PID)) {
			t.Errorf("status doesn't name worker %d:\n%s", w.PID, human.Stdout)
		}
	}
	machine := s.CLI("status", "--json")
	var fields map[string]any
	if err := json.Unmarshal([]byte(machine.Stdout), &fields); err != nil {
		t.Fatalf("status --json: %v\n%s%s", err, machine.Stdout, machine.Stderr)
	}
	for _, name := range []string{"version", "pid", "generation", "config", "generations", "last_change"} {
		if _, ok := fields[name]; !ok {
			t.Errorf("status --json has no %s", name)
		}
	}
}

func TestStatusWithoutMaster(t *testing.T) {
	s := harness.Prepare(t, harness.Config{})
	for _, command := range []string{"status", "reload", "upgrade", "stop"} {
		if r := s.CLI(command); r.Code == 0 || r.Stderr == "" {
			t.Errorf("%s without a master: status %d, %q", command, r.Code, r.Stderr)
		}
	}
}

func TestEcho(t *testing.T) {
	c := harness.Default(t)
	harness.Start(t, c)
	conn := kit.Dial(t, c.Address("echo"))
	conn.Echo("hello")

	// More than all buffers on the way hold, so that the server must stop
	// reading while the client doesn't.
	text := make([]byte, 16<<20)
	rnd := rand.NewChaCha8([32]byte{1})
	_, _ = rnd.Read(text)
	sent := make(chan error, 1)
	go func() {
		_, err := conn.Write(text)
		sent <- err
	}()
	conn.WantBack(string(text))
	if err := <-sent; err != nil {
		t.Fatal(err)
	}

	// What was sent before the half-close comes back before the end.
	conn.Send("the rest")
	conn.CloseWrite()
	conn.WantBack("the rest")
	conn.WantEOF()
}

func TestStopFinishesRequests(t *testing.T) {
	c := harness.Default(t).WithWorkers(1)
	s := harness.Start(t, c)
	asking := kit.Dial(t, c.Address("web"))
	asking.Get()
	half := kit.Dial(t, c.Address("web"))
	half.Send(kit.Get[:20])
	whole := kit.Dial(t, c.Address("web"))
	whole.Get()
	pid := s.PID()
	s.Signal(syscall.SIGTERM)
	s.Wait("the address to be closed", func() bool { return kit.Refused(c.Address("web")) })
	s.Wait("the worker to have heard of it", func() bool {
		asking.Send(kit.Get)
		resp, _ := asking.Answer()
		return resp.Close
	})
	half.Send(kit.Get[20:])
	resp, text := half.Answer()
	if !resp.Close || text != "hello\n" {
		t.Errorf("answer %q, close %v; want the last one", text, resp.Close)
	}
	half.WantEOF()
	whole.Send(kit.Get)
	if resp, _ := whole.Answer(); !resp.Close {
		t.Error("the last answer on a kept connection doesn't say so")
	}
	if code := s.WaitPID(pid); code != 0 {
		t.Errorf("exit status %d", code)
	}
}

func TestStopCommand(t *testing.T) {
	s := harness.Start(t, harness.Default(t))
	if r := s.CLI("stop"); r.Code != 0 {
		t.Errorf("stop ends with %d: %s%s", r.Code, r.Stdout, r.Stderr)
	}
	if code := s.WaitExit(); code != 0 {
		t.Errorf("the master ends with %d", code)
	}
}

func TestSecondSignalStopsAtOnce(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(sig.String(), func(t *testing.T) {
			c := harness.Default(t).With("drain_timeout: 5m")
			s := harness.Start(t, c)
			conn := kit.Dial(t, c.Address("echo"))
			conn.Echo("hello")
			s.Signal(sig)
			s.Wait("the address to be closed", func() bool { return kit.Refused(c.Address("echo")) })
			conn.Echo("still here") // the first is a graceful one
			if err := syscall.Kill(s.FirstPID(), sig); err != nil {
				t.Fatal(err)
			}
			s.WaitExit() // in less than drain_timeout
		})
	}
}

func TestDrainTimeoutCuts(t *testing.T) {
	c := harness.Default(t).With("drain_timeout: 1s")
	s := harness.Start(t, c)
	conn := kit.Dial(t, c.Address("echo"))
	conn.Echo("hello")
	s.WriteConfig(c.WithListeners(c.Listeners[0])) // so that nobody takes the stream over
	s.Reload()
	// It lives for a while yet.
	conn.Echo("still here")
	st := s.WaitServing(2)
	if st.Totals.Cut != 1 {
		t.Errorf("%d connections were cut, want 1", st.Totals.Cut)
	}
	conn.Soon()
	if _, err := conn.R.ReadByte(); err == nil {
		t.Error("a cut connection speaks")
	}
}

func TestStopCutsAtDrainTimeout(t *testing.T) {
	c := harness.Default(t).With("drain_timeout: 1s")
	s := harness.Start(t, c)
	conn := kit.Dial(t, c.Address("echo"))
	conn.Echo("hello")
	s.Stop()
	if _, err := io.ReadAll(conn.R); err != nil && !strings.Contains(err.Error(), "reset") {
		t.Error(err)
	}
}

func TestSecondMasterIsRefused(t *testing.T) {
	c := harness.Default(t)
	s := harness.Start(t, c)
	before := s.Status()
	r := s.CLI("run", "-c", s.ConfigPath)
	if r.Code == 0 || !strings.Contains(r.Stderr+r.Stdout, strconv.Itoa(s.FirstPID())) {
		t.Errorf("status %d; its words don't name the PID %d: %s%s", r.Code, s.FirstPID(), r.Stdout, r.Stderr)
	}
	kit.Unchanged(t, s, before)
}

func TestPIDFile(t *testing.T) {
	s := harness.Start(t, harness.Default(t))
	path := filepath.Join(s.RuntimeDir, "reuseportd.pid")
	for range 3 {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := strings.TrimSpace(string(data)), strconv.Itoa(s.Status().PID); got != want {
			t.Errorf("the PID file says %s, the master is %s", got, want)
		}
		s.Upgrade()
	}
	s.Stop()
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("the PID file outlives the server: %v", err)
	}
}

func TestAddressFamilies(t *testing.T) {
	port := harness.Port(t)
	v4, v6 := fmt.Sprintf("127.0.0.1:%d", port), fmt.Sprintf("[::1]:%d", port)
	c := harness.Default(t)
	s := harness.Prepare(t, c)
	web, echo := "unix:"+filepath.Join(s.Dir, "web.sock"), "unix:"+filepath.Join(s.Dir, "echo.sock")
	c = c.WithListeners(
		harness.Answer("v4", v4, "four"), harness.Answer("v6", v6, "six"),
		harness.Web("web", web), harness.Echo("echo", echo),
	)
	s.WriteConfig(c)
	s.Run()
	s.WaitServing(1)
	if a, b := kit.Body(v4), kit.Body(v6); a != "four\n" || b != "six\n" {
		t.Errorf("IPv4 answers %q, IPv6 %q", a, b)
	}
	kit.LosingNothing(t, kit.Clients(c), func(m *meter.Meter) {
		for i := range 3 {
			m.Mark("reload %d", i)
			s.Reload()
		}
		m.Mark("upgrade")
		s.Upgrade()
	})
	s.Stop()
	for _, address := range []string{web, echo} {
		if _, err := os.Stat(strings.TrimPrefix(address, "unix:")); !os.IsNotExist(err) {
			t.Errorf("%s outlives the server: %v", address, err)
		}
	}
}

func TestThreads(t *testing.T) {
	c := harness.Default(t)
	c.Workers, c.Threads = 1, 4
	s := harness.Start(t, c)
	if l := harness.ListenerAt(s.Status(), c.Address("web")); l.Shards != 4 {
		t.Errorf("%d shards for four loops", l.Shards)
	}
	kit.LosingNothing(t, kit.Clients(c), func(m *meter.Meter) {
		m.Mark("reload")
		s.Reload()
		m.Mark("two workers of two threads")
		c.Workers, c.Threads = 2, 2
		s.WriteConfig(c)
		s.Reload()
	})
}

func TestWorkersDropPrivileges(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give up root's privileges")
	}
	c := harness.Default(t).With("user: nobody", "group: nogroup")
	s := harness.Start(t, c)
	for _, generation := range []string{"first", "reloaded"} {
		for _, pid := range s.Workers() {
			for field, want := range map[string]string{
				"Uid": "65534 65534 65534 65534", "Gid": "65534 65534 65534 65534",
				"NoNewPrivs": "1", "CapEff": "0000000000000000", "CapPrm": "0000000000000000",
			} {
				if got := harness.ProcStatus(pid, field); got != want {
					t.Errorf("%s worker %d: %s %q, want %q", generation, pid, field, got, want)
				}
			}
			if got := harness.ProcStatus(pid, "Groups"); got != "" && got != "65534" {
				t.Errorf("%s worker %d is in groups %s", generation, pid, got)
			}
		}
		if got := kit.Body(c.Address("web")); got != "hello\n" {
			t.Errorf("%s workers answer %q", generation, got)
		}
		s.Reload()
	}
}

func TestCheck(t *testing.T) {
	c := harness.Default(t)
	s := harness.Prepare(t, c)
	if r := s.CLIWithoutDir("check", "-c", s.ConfigPath); r.Code != 0 {
		t.Errorf("a good configuration: status %d: %s%s", r.Code, r.Stdout, r.Stderr)
	}
	s.WriteConfigText(c.String() + "wrokers: 2\n")
	line := strings.Count(c.String(), "\n") + 1
	r := s.CLIWithoutDir("check", "-c", s.ConfigPath)
	if where := fmt.Sprintf("config.yaml:%d:1", line); r.Code == 0 || !strings.Contains(r.Stdout+r.Stderr, where) ||
		!strings.Contains(r.Stdout+r.Stderr, "wrokers: 2") {
		t.Errorf("status %d, want %s and the line itself in: %s%s", r.Code, where, r.Stdout, r.Stderr)
	}
}

func TestStaticFile(t *testing.T) {
	c := harness.Default(t)
	s := harness.Prepare(t, c)
	root := filepath.Join(s.Dir, "www")
	if err := os.Mkdir(root, 0o755); err != nil {
		t.Fatal(err)
	}
	text := strings.Repeat("0123456789", 100_000)
	if err := os.WriteFile(filepath.Join(root, "a.txt"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	c.Listeners[0].Service = fmt.Sprintf("http: {routes: [{path: /, files: {root: %s}}]}", root)
	s.WriteConfig(c)
	s.Run()
	s.WaitServing(1)
	conn := kit.Dial(t, c.Address("web"))
	conn.Send("GET /a.txt HTTP/1.1\r\nHost: test\r\n\r\n")
	resp, got := conn.Answer()
	if resp.StatusCode != http.StatusOK || got != text || !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/plain") {
		t.Errorf("%s, %d bytes of %s", resp.Status, len(got), resp.Header.Get("Content-Type"))
	}
	conn.Send("GET /a.txt HTTP/1.1\r\nHost: test\r\nRange: bytes=5-9\r\n\r\n")
	if resp, got := conn.Answer(); resp.StatusCode != http.StatusPartialContent || got != "56789" {
		t.Errorf("range: %s %q", resp.Status, got)
	}
	// Large answers under way are whole, whatever happens meanwhile.
	mc := kit.Clients(c)
	mc.Paths, mc.Burst, mc.FreshRate, mc.Kept, mc.KeptPause = []string{"/a.txt"}, 20, 20, 4, 20*time.Millisecond
	mc.Halves, mc.Pipeline, mc.BodyMethod = 2, 1, "GET"
	kit.LosingNothing(t, mc, func(m *meter.Meter) {
		for i := range 3 {
			m.Mark("reload %d", i)
			s.Reload()
		}
	})
}

// TestStartsManyWorkers: there may be more of them than errands at a time.
func TestStartsManyWorkers(t *testing.T) {
	s := harness.Prepare(t, harness.Default(t).WithWorkers(80).With("start_timeout: 60s"))
	s.Run()
	if got := len(harness.Serving(s.WaitServing(1)).Workers); got != 80 {
		t.Errorf("%d workers serve", got)
	}
}
