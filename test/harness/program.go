package harness

import (
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// Program is a server of others, a database for instance, that a test has behind
// reuseportd. It ends with the test, and with the test's process however that ends.
type Program struct {
	Dir string // its own; Account may write there
	PID int

	t      testing.TB
	name   string
	cmd    *exec.Cmd
	exited chan struct{}
}

// Need wants programs of a Debian package. Where continuous integration runs, a
// test without them has failed; elsewhere it is skipped.
func Need(t testing.TB, pkg string, programs ...string) {
	t.Helper()
	for _, name := range programs {
		if _, err := exec.LookPath(name); err == nil {
			continue
		}
		if os.Getenv("CI") != "" {
			t.Fatalf("%s is not installed, and .ci/run should have installed %s", name, pkg)
		}
		t.Skipf("%s is not installed; apt-get install %s", name, pkg)
	}
}

// Account is an unprivileged user with a shell, for programs that want one: the
// user who runs the test, but root. Credential is then nil.
func Account(t testing.TB) (u *user.User, c *syscall.Credential) {
	t.Helper()
	if os.Getuid() != 0 {
		u, err := user.Current()
		if err != nil {
			t.Fatal(err)
		}
		return u, nil
	}
	u, err := user.Lookup("postgres") // of its package; nobody has no shell
	if err != nil {
		if u, err = user.Lookup("nobody"); err != nil {
			t.Fatal(err)
		}
	}
	uid, uidErr := strconv.ParseUint(u.Uid, 10, 32)
	gid, gidErr := strconv.ParseUint(u.Gid, 10, 32)
	if uidErr != nil || gidErr != nil {
		t.Fatalf("user %s has numbers %s and %s", u.Username, u.Uid, u.Gid)
	}
	return u, &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
}

// AccountDir makes a directory of Account's own, which ends with the test.
func AccountDir(t testing.TB) string {
	t.Helper()
	dir := filepath.Join(scratch, fmt.Sprint(unique()))
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, c := Account(t); c != nil {
		if err := os.Chown(dir, int(c.Uid), int(c.Gid)); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// RunAs runs a command as Account in dir, to its end, and wants it to succeed.
func RunAs(t testing.TB, dir, name string, args ...string) {
	t.Helper()
	cmd := exec.Command(name, args...)
	_, c := Account(t)
	cmd.Dir, cmd.SysProcAttr = dir, &syscall.SysProcAttr{Credential: c}
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", name, err, text)
	}
}

// StartProgram starts a program as Account in a directory of AccountDir, and
// waits until ready. stop is the signal that ends it, with all its children.
func StartProgram(t testing.TB, dir string, stop syscall.Signal, ready func() bool, name string, args ...string) *Program {
	t.Helper()
	p := &Program{Dir: dir, t: t, name: filepath.Base(name), exited: make(chan struct{})}
	log, err := os.Create(p.logPath())
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	p.cmd = exec.Command(name, args...)
	_, c := Account(t)
	p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr = dir, log, log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: c, Setpgid: true, Pdeathsig: stop}
	started := make(chan error)
	go func() {
		// The kernel sends Pdeathsig when this thread ends, so it stays.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := p.cmd.Start()
		if err == nil {
			p.PID = p.cmd.Process.Pid
			managed.add(p.PID)
		}
		started <- err
		if err == nil {
			_ = p.cmd.Wait() // its state is in cmd
			managed.remove(p.PID)
			close(p.exited)
		}
	}()
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.end(stop) })
	Wait(t, p.name+" to be ready", func() bool {
		select {
		case <-p.exited:
			t.Fatalf("%s has ended: %v\n%s", p.name, p.cmd.ProcessState, p.Log())
		default:
		}
		return ready()
	})
	return p
}

func (p *Program) logPath() string { return filepath.Join(p.Dir, p.name+".log") }

// Log is what it has written so far.
func (p *Program) Log() string {
	text, err := os.ReadFile(p.logPath())
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// end ends the program and looks for what is left of it. Orphans of a program
// become children of this process, by Main.
func (p *Program) end(stop syscall.Signal) {
	if p.t.Failed() {
		p.t.Logf("log of %s:\n%s", p.name, tail(p.Log(), 50))
	}
	_ = syscall.Kill(p.PID, stop) // it may have ended
	select {
	case <-p.exited:
	case <-time.After(Within):
		p.t.Errorf("%s didn't end after %v", p.name, stop)
		_ = syscall.Kill(p.PID, syscall.SIGKILL)
		<-p.exited
	}
	for end := time.Now().Add(Within); ; time.Sleep(5 * time.Millisecond) {
		left := p.orphans()
		if len(left) == 0 {
			return
		}
		if time.Now().After(end) {
			p.t.Errorf("left behind by %s: processes %v", p.name, left)
			for _, pid := range left {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
			end = end.Add(Within)
		}
	}
}

// orphans are the processes that the program has left to this one, alive; the
// dead are reaped.
func (p *Program) orphans() (alive []int) {
	for _, pid := range allPIDs() {
		q, err := ReadProcess(pid)
		if err != nil || q.PPID != os.Getpid() || managed.has(pid) || q.Name != p.name {
			continue
		}
		if q.State == 'Z' {
			_, _ = syscall.Wait4(pid, nil, syscall.WNOHANG, nil) // or the next time
			continue
		}
		alive = append(alive, pid)
	}
	return alive
}
