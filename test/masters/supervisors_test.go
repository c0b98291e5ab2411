package masters

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"reuseportd/internal/control"
	"reuseportd/test/harness"
	"reuseportd/test/kit"
)

// supervisors are programs that start a service, each with its example from deploy/ or its command line.
// arrange makes its files and returns its command for the service's command line or example.
var supervisors = []struct {
	name, pkg, program string
	example            string // below deploy; "" is a command line
	arrange            func(t *testing.T, dir, example string, service []string) []string
}{
	{"tini", "tini", "tini", "", func(_ *testing.T, _, _ string, service []string) []string {
		return append([]string{"tini", "-s", "--"}, service...)
	}},
	{"tini and a script", "tini", "tini", "", func(t *testing.T, dir, _ string, service []string) []string {
		return []string{"tini", "-s", "-g", "--", script(t, filepath.Join(dir, "entrypoint"), strings.Join(service, " ")+"; exit $?")}
	}},
	{"dumb-init", "dumb-init", "dumb-init", "", func(_ *testing.T, _, _ string, service []string) []string {
		return append([]string{"dumb-init", "--"}, service...)
	}},
	{"runit", "runit", "runsv", "runit/run", func(t *testing.T, dir, example string, _ []string) []string {
		script(t, filepath.Join(dir, "run"), example)
		return []string{"runsv", dir}
	}},
	{"s6", "s6", "s6-supervise", "s6/run", func(t *testing.T, dir, example string, _ []string) []string {
		script(t, filepath.Join(dir, "run"), example)
		return []string{"s6-supervise", dir}
	}},
	{"supervisord", "supervisor", "supervisord", "supervisor/reuseportd.conf", func(t *testing.T, dir, example string, _ []string) []string {
		path := filepath.Join(dir, "supervisord.conf")
		kit.Must(t, os.WriteFile(path, []byte(fmt.Sprintf("[supervisord]\nlogfile=%s\npidfile=%[1]s.pid\nchildlogdir=%s\n%s",
			filepath.Join(dir, "log"), dir, example)), 0o644))
		return []string{"supervisord", "-n", "-c", path}
	}},
}

func script(t *testing.T, path, text string) string {
	t.Helper()
	if !strings.HasPrefix(text, "#!") {
		text = "#!/bin/sh\n" + text
	}
	kit.Must(t, os.WriteFile(path, []byte(text+"\n"), 0o755))
	return path
}

// supervised starts a server below one of supervisors, with or without --init.
func supervised(t *testing.T, i int, init bool) *harness.Server {
	t.Helper()
	v := supervisors[i]
	harness.Need(t, v.pkg, v.program)
	s := harness.Prepare(t, harness.Default(t))
	service := []string{s.Binary, "run", "-c", s.ConfigPath}
	if init {
		service = append(service, "--init")
	}
	example := ""
	if v.example != "" {
		text, err := os.ReadFile(filepath.Join("../../deploy", v.example))
		kit.Must(t, err)
		swap := []string{"/usr/local/bin/reuseportd", s.Binary, "/etc/reuseportd/reuseportd.yaml", s.ConfigPath}
		if !init {
			swap = append(swap, "run --init", "run")
		}
		example = strings.NewReplacer(swap...).Replace(string(text))
	}
	dir := filepath.Join(s.Dir, "supervised")
	kit.Must(t, os.Mkdir(dir, 0o755))
	args := v.arrange(t, dir, example, service)
	s.Run(harness.Env("RUNTIME_DIRECTORY="+s.RuntimeDir), func(_ *harness.Server, cmd *exec.Cmd) {
		path, err := exec.LookPath(args[0])
		kit.Must(t, err)
		cmd.Path, cmd.Args = path, args
	})
	s.WaitServing(1)
	return s
}

// end has the supervisor end the service, and itself.
func end(t *testing.T, s *harness.Server) {
	t.Helper()
	kit.Must(t, syscall.Kill(s.FirstPID(), syscall.SIGTERM))
	s.WaitExit()
	s.Wait("all processes to be gone", func() bool { return len(s.Processes()) == 0 })
}

// Below a process that takes the master's end for that of the service, an upgrade is refused, and says
// what to do; nothing has changed.
func TestUpgradeBelowSupervisors(t *testing.T) {
	for i, v := range supervisors {
		t.Run(v.name, func(t *testing.T) {
			s := supervised(t, i, false)
			before := s.WaitServing(1)
			r := s.CLI("upgrade")
			if r.Code != 1 || !strings.Contains(r.Stderr, v.program+" (PID") || !strings.Contains(r.Stderr, "run --init") || !strings.Contains(r.Stderr, "--force") {
				t.Errorf("upgrade: status %d: %s%s", r.Code, r.Stdout, r.Stderr)
			}
			s.Signal(syscall.SIGUSR2)
			s.WaitStatus("the upgrade by a signal to be refused", func(st *control.Status) bool {
				return st.LastChange.Cause == "signal" && !st.LastChange.OK
			})
			kit.Unchanged(t, s, before)
			end(t, s)
		})
	}
}

// With --init, as the examples in deploy have it, the supervisor sees no end in any upgrade.
func TestUpgradeBelowSupervisorsWithInit(t *testing.T) {
	for i, v := range supervisors {
		t.Run(v.name, func(t *testing.T) {
			s := supervised(t, i, true)
			for n := range 3 {
				if r := s.CLI("upgrade"); r.Code != 0 {
					t.Fatalf("upgrade %d: status %d: %s%s", n, r.Code, r.Stdout, r.Stderr)
				}
				s.WaitServing(uint64(n + 2))
			}
			if harness.Gone(s.FirstPID()) {
				t.Errorf("%s is gone", v.program)
			}
			if log := s.Log(); strings.Count(log, "reuseportd serves http") > 1 {
				t.Errorf("the service was started a second time:\n%s", log)
			}
			end(t, s)
		})
	}
}

// Who is told to go on goes on.
func TestForcedUpgradeBelowSupervisor(t *testing.T) {
	harness.Need(t, "tini", "tini")
	s := harness.Prepare(t, harness.Default(t))
	path := script(t, filepath.Join(s.Dir, "entrypoint"), s.Binary+" run -c "+s.ConfigPath+"\nexec sleep 600")
	s.Run(harness.Env("RUNTIME_DIRECTORY="+s.RuntimeDir), func(_ *harness.Server, cmd *exec.Cmd) {
		tini, err := exec.LookPath("tini")
		kit.Must(t, err)
		cmd.Path, cmd.Args = tini, []string{"tini", "-s", "--", path}
	})
	s.WaitServing(1)
	for n, flags := range [][]string{{"--force"}, {}} { // the second master's parent follows nobody
		if r := s.CLI(append([]string{"upgrade"}, flags...)...); r.Code != 0 {
			t.Errorf("upgrade %q: status %d: %s%s", flags, r.Code, r.Stdout, r.Stderr)
		}
		s.WaitServing(uint64(n + 2))
	}
	if r := s.CLI("stop"); r.Code != 0 {
		t.Errorf("stop: status %d: %s%s", r.Code, r.Stdout, r.Stderr)
	}
	end(t, s)
}

// A container's entrypoint that is a script is PID 1, and waits for the master.
func TestUpgradeBelowScriptAsPID1(t *testing.T) {
	harness.Need(t, "util-linux", "unshare")
	if os.Geteuid() != 0 {
		t.Skip("only root can make a PID namespace")
	}
	s := harness.Prepare(t, harness.Default(t))
	for _, tt := range []struct{ flags, want string }{
		{"", "upgrade: 1"},
		{"--init", "upgrade: 0"},
	} {
		entry := script(t, filepath.Join(s.Dir, "entrypoint"), fmt.Sprintf(`
R="--runtime-dir %s"
%s run $R -c %s %s &
until %[2]s status $R >/dev/null 2>&1; do :; done
%[2]s upgrade $R
echo "upgrade: $?"
%[2]s stop $R
wait`, s.RuntimeDir, s.Binary, s.ConfigPath, tt.flags))
		text, err := exec.Command("unshare", "-p", "-f", "--mount-proc", "--kill-child", entry).CombinedOutput()
		if err != nil || !strings.Contains(string(text), tt.want+"\n") || strings.Contains(string(text), "entrypoint (PID 1)") != (tt.flags == "") {
			t.Errorf("run %s: %v\n%s", tt.flags, err, text)
		}
	}
}

// Should the process that a supervisor knows be killed, the one that it starts then takes over from the master
// that runs still: the examples say --takeover.
func TestSupervisorStartsAgain(t *testing.T) {
	for i, v := range supervisors {
		if v.example == "" {
			continue
		}
		t.Run(v.name, func(t *testing.T) {
			s := supervised(t, i, true)
			old := s.PID()
			p, err := harness.ReadProcess(old)
			kit.Must(t, err)
			if name, err := harness.ReadProcess(p.PPID); err != nil || name.PPID != s.FirstPID() {
				t.Fatalf("the master's parent is %+v, want a child of %d: %v", name, s.FirstPID(), err)
			}
			kit.Must(t, syscall.Kill(p.PPID, syscall.SIGKILL))
			s.WaitStatus("another master", func(st *control.Status) bool {
				return st.PID != old && st.Change == "" && st.Generation == 2 && len(st.Groups) == 1
			})
			s.WaitPID(old)
			if r := s.CLI("upgrade"); r.Code != 0 {
				t.Errorf("upgrade: status %d: %s%s", r.Code, r.Stdout, r.Stderr)
			}
			end(t, s)
		})
	}
}
