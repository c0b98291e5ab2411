package initd

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The test binary plays three parts: the test, initd (as its child, or as PID 1
// of a namespace), and the master.
func TestMain(m *testing.M) {
	switch os.Getenv("INITD_TEST_PART") {
	case "init":
		os.Setenv("INITD_TEST_PART", "master")
		path := cmp.Or(os.Getenv("INITD_TEST_PATH"), os.Args[0])
		os.Exit(Run(Options{
			Path: path, Args: os.Args[1:],
			PIDFile: os.Getenv("INITD_TEST_PIDFILE"), Stderr: os.Stderr,
		}))
	case "master":
		os.Exit(master())
	}
	os.Exit(m.Run())
}

// master says what happens to it, one line each, and does what signals ask:
// USR2 upgrades, HUP leaves an orphan, USR1 crashes with a panic's exit status,
// TERM ends with 7, INT and QUIT are only told.
func master() int {
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, forwarded...)
	if os.Getenv("INITD_TEST_FAIL") != "" {
		return 5
	}
	writePID()
	pgid, _ := unix.Getpgid(0)
	fmt.Printf("serving %d group %d args %s\n", os.Getpid(), pgid, strings.Join(os.Args[1:], " "))
	for sig := range signals {
		fmt.Printf("%d got %v\n", os.Getpid(), sig)
		switch sig {
		case unix.SIGUSR2:
			child := exec.Command(os.Args[0], os.Args[1:]...)
			child.Stdout, child.Stderr = os.Stdout, os.Stderr
			if err := child.Start(); err != nil {
				fmt.Println(err)
				return 1
			}
			for readPIDFile(os.Getenv("INITD_TEST_PIDFILE")).pid != child.Process.Pid {
				time.Sleep(time.Millisecond)
			}
			for held() {
				time.Sleep(time.Millisecond)
			}
			return 0
		case unix.SIGHUP:
			// sh leaves its child behind, which becomes initd's when sh ends.
			out, err := exec.Command("sh", "-c", "sleep 0.01 >/dev/null 2>&1 & echo $!").Output()
			fmt.Printf("orphan %s %v\n", strings.TrimSpace(string(out)), err)
		case unix.SIGUSR1:
			return 2
		case unix.SIGTERM:
			return 7
		}
	}
	return 1
}

// held reports whether a master that has a successor is to stay.
func held() bool {
	_, err := os.Stat(os.Getenv("INITD_TEST_PIDFILE") + ".hold")
	return err == nil
}

func writePID() {
	path := os.Getenv("INITD_TEST_PIDFILE")
	tmp := fmt.Sprintf("%s.%d", path, os.Getpid())
	if err := os.WriteFile(tmp, []byte(strconv.Itoa(os.Getpid())), 0o600); err != nil {
		panic(err)
	}
	if err := os.Rename(tmp, path); err != nil {
		panic(err)
	}
}

type process struct {
	t       *testing.T
	cmd     *exec.Cmd
	lines   *bufio.Scanner
	pidfile string
	stderr  strings.Builder
}

// startInit runs initd with the extra environment, in a PID namespace of its own if asked.
func startInit(t *testing.T, pid1 bool, env ...string) *process {
	t.Helper()
	p := &process{t: t, pidfile: filepath.Join(t.TempDir(), "reuseportd.pid")}
	p.cmd = exec.Command(os.Args[0], "run", "-c", "x y")
	p.cmd.Env = append(os.Environ(), "INITD_TEST_PART=init", "INITD_TEST_PIDFILE="+p.pidfile,
		"GORACE=atexit_sleep_ms=0") // else each end takes a second
	p.cmd.Env = append(p.cmd.Env, env...)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
	if pid1 {
		if os.Geteuid() != 0 {
			t.Skip("only root can make a PID namespace")
		}
		p.cmd.Args = append([]string{"unshare", "-p", "-f", "--mount-proc", "--kill-child"}, append([]string{os.Args[0]}, p.cmd.Args[1:]...)...)
		path, err := exec.LookPath("unshare")
		if err != nil {
			t.Skip("unshare(1) is not installed")
		}
		p.cmd.Path = path
	}
	p.cmd.Stderr = &p.stderr
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p.cmd.Stdout = w
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	t.Cleanup(func() { r.Close() })
	// Should a test fail half-way, its masters end with it.
	t.Cleanup(func() {
		if f := readPIDFile(p.pidfile); p.cmd.ProcessState == nil {
			p.cmd.Process.Kill()
			if !pid1 && f.pid > 0 {
				unix.Kill(f.pid, unix.SIGKILL)
			}
			p.cmd.Wait()
		}
	})
	r.SetReadDeadline(time.Now().Add(30 * time.Second))
	p.lines = bufio.NewScanner(r)
	return p
}

// expect reads the next line and what the verbs of format take from it.
func (p *process) expect(format string, into ...any) {
	p.t.Helper()
	if !p.lines.Scan() {
		p.t.Fatalf("no line, want %q; %v; stderr: %s", format, p.lines.Err(), p.stderr.String())
	}
	if n, err := fmt.Sscanf(p.lines.Text(), format, into...); err != nil || n != len(into) {
		p.t.Fatalf("got line %q, want %q: %v", p.lines.Text(), format, err)
	}
}

// signal sends sig to initd; in a namespace, to the child of unshare.
func (p *process) signal(sig syscall.Signal) {
	p.t.Helper()
	pid := p.cmd.Process.Pid
	if p.cmd.Args[0] == "unshare" {
		out, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
		if err != nil {
			p.t.Fatal(err)
		}
		if _, err := fmt.Sscan(string(out), &pid); err != nil {
			p.t.Fatal(err)
		}
	}
	if err := unix.Kill(pid, sig); err != nil {
		p.t.Fatal(err)
	}
}

func (p *process) wait(want int) {
	p.t.Helper()
	for p.lines.Scan() {
		p.t.Errorf("unexpected line %q", p.lines.Text())
	}
	p.cmd.Wait()
	if got := p.cmd.ProcessState.ExitCode(); got != want {
		p.t.Errorf("initd exited with %d, want %d; stderr: %s", got, want, p.stderr.String())
	}
}

func TestForwardsSignalsToTheNewMaster(t *testing.T) {
	for _, pid1 := range []bool{false, true} {
		t.Run(fmt.Sprintf("pid1=%v", pid1), func(t *testing.T) {
			p := startInit(t, pid1)
			var pid, group, from int
			p.expect("serving %d group %d args run -c x y", &pid, &group)
			if pid != group {
				t.Errorf("the master %d is in group %d: a ^C would reach it twice", pid, group)
			}
			for _, sig := range []syscall.Signal{unix.SIGINT, unix.SIGQUIT} {
				p.signal(sig)
				p.expect("%d got "+sig.String(), &from)
				if from != pid {
					t.Errorf("%d got %v, want %d", from, sig, pid)
				}
			}
			for range 5 {
				var next int
				p.signal(unix.SIGUSR2)
				p.expect("%d got user defined signal 2", &from)
				p.expect("serving %d group %d args run -c x y", &next, &group)
				if from != pid || next == pid {
					t.Errorf("%d upgraded to %d, want %d to upgrade", from, next, pid)
				}
				pid = next
			}
			p.signal(unix.SIGTERM)
			p.expect("%d got terminated", &from)
			if from != pid {
				t.Errorf("%d got SIGTERM, want %d", from, pid)
			}
			p.wait(7)
		})
	}
}

// TestFollowsTwoUpgradesAtOnce: when the end of a master is seen late, the file may name the next but one already, whose own parent
// hasn't ended yet.
func TestFollowsTwoUpgradesAtOnce(t *testing.T) {
	p := startInit(t, false)
	var first, second, third, group, from int
	p.expect("serving %d group %d args run -c x y", &first, &group)
	stop := func(sig syscall.Signal) {
		t.Helper()
		if err := unix.Kill(p.cmd.Process.Pid, sig); err != nil {
			t.Fatal(err)
		}
	}
	upgrade := func(pid int) (next int) {
		t.Helper()
		if err := unix.Kill(pid, unix.SIGUSR2); err != nil {
			t.Fatal(err)
		}
		p.expect("%d got "+unix.SIGUSR2.String(), &from)
		p.expect("serving %d group %d args run -c x y", &next, &group)
		return next
	}
	stop(unix.SIGSTOP)
	second = upgrade(first)
	until(t, "the first master to end", func() bool { return !alive(first) })
	if err := os.WriteFile(p.pidfile+".hold", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	third = upgrade(second)
	stop(unix.SIGCONT)
	until(t, "the first master to be reaped", func() bool { state, _ := stat(first); return state == "" })
	p.signal(unix.SIGINT)
	if p.expect("%d got "+unix.SIGINT.String(), &from); from != third {
		t.Errorf("%d got the signal, want %d", from, third)
	}
	if err := os.Remove(p.pidfile + ".hold"); err != nil {
		t.Fatal(err)
	}
	until(t, "the second master to end", func() bool { return !alive(second) })
	p.signal(unix.SIGTERM)
	p.expect("%d got "+unix.SIGTERM.String(), &from)
	p.wait(7)
}

func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

func TestBuriesOrphans(t *testing.T) {
	p := startInit(t, false)
	var pid, group, orphan int
	p.expect("serving %d group %d args run -c x y", &pid, &group)
	for range 3 {
		p.signal(unix.SIGHUP)
		p.expect(strconv.Itoa(pid) + " got hangup")
		p.expect("orphan %d <nil>", &orphan)
		for deadline := time.Now().Add(10 * time.Second); unix.Kill(orphan, 0) == nil; {
			if time.Now().After(deadline) {
				t.Fatalf("orphan %d was never buried", orphan)
			}
			time.Sleep(time.Millisecond)
		}
	}
	p.signal(unix.SIGTERM)
	p.expect(strconv.Itoa(pid) + " got terminated")
	p.wait(7)
}

func TestStartsACrashedMasterAgain(t *testing.T) {
	p := startInit(t, false)
	var pid, group int
	for i := range maxRestarts + 1 {
		p.expect("serving %d group %d args run -c x y", &pid, &group)
		if i%2 == 0 {
			unix.Kill(pid, unix.SIGKILL)
		} else {
			p.signal(unix.SIGUSR1)
			p.expect(strconv.Itoa(pid) + " got user defined signal 1")
		}
	}
	p.wait(2)
	if text := p.stderr.String(); strings.Count(text, "starting another") != maxRestarts || !strings.Contains(text, "giving up") {
		t.Errorf("stderr: %s", text)
	}
}

func TestMasterKilledBySignalAfterStop(t *testing.T) {
	p := startInit(t, false)
	var pid, group int
	p.expect("serving %d group %d args run -c x y", &pid, &group)
	p.signal(unix.SIGINT)
	p.expect(strconv.Itoa(pid) + " got interrupt")
	unix.Kill(pid, unix.SIGKILL)
	p.wait(128 + 9)
}

// A master that never served has not crashed: it couldn't start.
func TestMasterThatCannotStart(t *testing.T) {
	startInit(t, false, "INITD_TEST_FAIL=yes").wait(5)
}

func TestMissingBinary(t *testing.T) {
	p := startInit(t, false, "INITD_TEST_PATH="+filepath.Join(t.TempDir(), "none"))
	p.wait(1)
	if text := p.stderr.String(); !strings.Contains(text, "start the master") {
		t.Errorf("stderr: %s", text)
	}
}

// What an earlier container left in the directory names a PID that means
// somebody else now, a worker perhaps.
func TestStalePIDFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pid")
	stale := exec.Command("sleep", "60")
	if err := stale.Start(); err != nil {
		t.Fatal(err)
	}
	defer stale.Wait()
	defer stale.Process.Kill()
	write := func(pid int) {
		t.Helper()
		if err := os.WriteFile(path+".new", []byte(fmt.Sprintln(pid)), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
	write(stale.Process.Pid)
	d := &initd{opts: Options{PIDFile: path, Stderr: io.Discard}, master: -5}
	d.first = readPIDFile(path)
	if d.follow(); d.master != -5 {
		t.Errorf("a stale file made %d the master", d.master)
	}
	write(stale.Process.Pid)
	if d.follow(); d.master != stale.Process.Pid {
		t.Errorf("the master is %d", d.master)
	}
	for _, text := range []string{"", "x", "-1", "1", "99999999"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if f := readPIDFile(path); f.pid > 0 && alive(f.pid) {
			t.Errorf("%q is taken for the living %d", text, f.pid)
		}
	}
}

// What another user has put in the place of the PID file names nobody, and holds nobody up.
func TestPlantedPIDFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pid")
	for name, plant := range map[string]func() error{
		"a file of another user": func() error {
			if os.Geteuid() != 0 {
				return os.WriteFile(path, nil, 0o600)
			}
			return errors.Join(os.WriteFile(path, []byte("123"), 0o600), os.Chown(path, 65534, 65534))
		},
		"a FIFO": func() error { return syscall.Mkfifo(path, 0o600) },
		"a link": func() error {
			return errors.Join(os.WriteFile(path+"2", []byte("123"), 0o600), os.Symlink(path+"2", path))
		},
	} {
		if err := plant(); err != nil {
			t.Fatal(err)
		}
		if f := readPIDFile(path); f.pid != 0 {
			t.Errorf("%s names %d", name, f.pid)
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
}
