package serving

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"reuseportd/internal/control"
	"reuseportd/test/harness"
	"reuseportd/test/kit"
)

// threads are the directories in /proc of a process's threads.
func threads(t *testing.T, pid int) []string {
	t.Helper()
	paths, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", pid))
	kit.Must(t, err)
	if len(paths) == 0 {
		t.Errorf("process %d has no threads", pid)
	}
	return paths
}

// wantKept wants each thread of a worker to be confined, and the process to have
// nothing of the master's that it doesn't need.
func wantKept(t *testing.T, pid int, cgo bool) {
	t.Helper()
	const none = "0000000000000000"
	want := map[string][]string{
		"Uid": {"65534 65534 65534 65534"}, "Gid": {"65534 65534 65534 65534"},
		"CapPrm": {none}, "CapEff": {none}, "CapBnd": {none}, "CapAmb": {none}, "CapInh": {none},
		"NoNewPrivs": {"1"}, "Seccomp": {"2"},
	}
	if cgo { // where no call can be made on all threads: capset(2); nothing can be made of it
		want["CapInh"] = append(want["CapInh"], "0000000000000080")
	}
	for _, thread := range threads(t, pid) {
		text, err := os.ReadFile(thread + "/status")
		if err != nil {
			continue // it has ended
		}
		for line := range strings.Lines(string(text)) {
			key, value, _ := strings.Cut(line, ":")
			value = strings.Join(strings.Fields(value), " ")
			if allowed := want[key]; allowed != nil && !slices.Contains(allowed, value) {
				t.Errorf("%s: %s is %s, want %s", thread, key, value, allowed[0])
			}
		}
	}
	env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	kit.Must(t, err)
	for kv := range strings.SplitSeq(string(env), "\x00") {
		name, _, _ := strings.Cut(kv, "=")
		if name != "" && !slices.Contains([]string{"GORACE", "GODEBUG", "TZ", "LANG", "SSL_CERT_FILE", "SSL_CERT_DIR"}, name) &&
			!strings.HasPrefix(name, "REUSEPORTD_") {
			t.Errorf("worker %d has the master's variable %s", pid, name)
		}
	}
}

// wantFewDescriptors wants a worker to have no descriptor but those that one has: of files the log and the
// root, and the runtime directory, which it keeps from cleaners and, by Landlock, can't look into.
func wantFewDescriptors(t *testing.T, pid int, files ...string) {
	t.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	kit.Must(t, err)
	for _, e := range entries {
		target, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%s", pid, e.Name()))
		if err != nil {
			continue
		}
		ok := false
		for _, may := range []string{"socket:", "anon_inode:[eventpoll]", "anon_inode:[eventfd]", "/memfd:reuseportd-", "/dev/null", "pipe:"} {
			ok = ok || strings.HasPrefix(target, may)
		}
		if !ok && !slices.Contains(files, target) {
			t.Errorf("worker %d has descriptor %s, %s", pid, e.Name(), target)
		}
	}
}

// TestWorkersAreKept: without a word about it in the configuration, workers of root run as
// nobody, and have nothing that they don't need; after a reload, a death and an upgrade, too.
func TestWorkersAreKept(t *testing.T) {
	kit.NeedRoot(t)
	for _, static := range []bool{true, false} {
		t.Run(map[bool]string{true: "static", false: "as tested"}[static], func(t *testing.T) {
			c := harness.Default(t)
			s := harness.Prepare(t, c)
			root := filepath.Join(s.Dir, "www")
			kit.Must(t, os.Mkdir(root, 0o755))
			c.Listeners[0].Service = fmt.Sprintf("http: {routes: [{path: /, respond: {body: hello}}, {path: /f/, files: {root: %s}}]}", root)
			s.WriteConfig(c)
			if static {
				s.Install(harness.BuildStatic(t))
			}
			secret := filepath.Join(s.Dir, "secret")
			kit.Must(t, os.WriteFile(secret, nil, 0o600))
			script := s.Script(fmt.Sprintf("exec 9<%s; exec \"$@\"", secret))
			s.Run(harness.Env("DATABASE_PASSWORD=secret"), func(s *harness.Server, cmd *exec.Cmd) {
				cmd.Path, cmd.Args = script, append([]string{script, s.Binary}, cmd.Args[1:]...)
			})
			s.WaitServing(1)
			look := func(when string) {
				t.Helper()
				for _, pid := range s.Workers() {
					wantKept(t, pid, !static)
					wantFewDescriptors(t, pid, s.LogPath, root, s.RuntimeDir)
				}
				if t.Failed() {
					t.Fatalf("that was %s", when)
				}
			}
			look("at the start")
			s.Reload()
			look("after a reload")
			pid := s.Workers()[0]
			kit.Must(t, syscall.Kill(pid, syscall.SIGKILL))
			s.WaitStatus("the replacement to serve", func(st *control.Status) bool {
				return len(kit.Pids(st)) == 2 && !slices.Contains(kit.Pids(st), pid) && serveAll(st)
			})
			look("after a death")
			s.Upgrade()
			look("after an upgrade")
			st := s.Status()
			for _, w := range harness.Serving(st).Workers {
				if k := w.Sandbox; k == nil || k.UID != 65534 || !k.Seccomp || !k.NoNewPrivs || k.Bounding != "0000000000000000" {
					t.Errorf("status says %+v", k)
				}
			}
			if text := s.CLI("status").Stdout; !strings.Contains(text, "uid 65534, gid 65534, seccomp, Landlock (ABI ") {
				t.Errorf("status says\n%s", text)
			}
			if !strings.Contains(s.Log(), "workers run as nobody (uid 65534), as no user is named") {
				t.Error("the log doesn't say who the workers are")
			}
		})
	}
}

// serveAll reports whether each worker of the serving generation serves.
func serveAll(st *control.Status) bool {
	for _, w := range harness.Serving(st).Workers {
		if w.State != "serving" {
			return false
		}
	}
	return true
}

// TestTakenOverWorker: what an attacker can do in a worker's place.
func TestTakenOverWorker(t *testing.T) {
	kit.NeedRoot(t)
	c := harness.Default(t).WithWorkers(1)
	s := harness.Prepare(t, c)
	root, beside := filepath.Join(s.Dir, "www"), filepath.Join(s.Dir, "beside")
	kit.Must(t, os.Mkdir(root, 0o755))
	for _, path := range []string{filepath.Join(root, "page"), beside} {
		kit.Must(t, os.WriteFile(path, []byte("text"), 0o666))
	}
	c.Listeners[0].Service = fmt.Sprintf("http: {access_log: {file: %s}, routes: [{path: /, files: {root: %s}}]}",
		filepath.Join(s.Dir, "access.log"), root)
	s.WriteConfig(c)
	s.Run()
	s.WaitServing(1)
	abstract, err := net.Listen("unix", fmt.Sprintf("@rp%d", os.Getpid()))
	kit.Must(t, err)
	defer abstract.Close()
	// Another process of the workers' user.
	sibling := exec.Command("sleep", "600")
	sibling.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}, Pdeathsig: syscall.SIGKILL}
	kit.Must(t, sibling.Start())
	defer func() { _ = sibling.Process.Kill(); _ = sibling.Wait() }()

	for _, try := range []struct{ what, want string }{
		{"open " + filepath.Join(root, "page"), "done"},
		{"create " + filepath.Join(root, "page"), "permission denied"},
		{"open " + beside, "permission denied"},
		{"open /etc/passwd", "permission denied"},
		{"open /etc/shadow", "permission denied"},
		{"open " + s.RuntimeDir, "permission denied"},
		{"open " + filepath.Join(s.RuntimeDir, "reuseportd.pid"), "permission denied"},
		{"open /proc/1/cmdline", map[bool]string{false: "permission denied", true: "done"}[harness.Raced]}, // the detector's own need
		{"create /tmp/reuseportd-was-here", "permission denied"},
		{"bind 0", "function not implemented"},
		{fmt.Sprintf("socket %d", unix.AF_PACKET), "address family not supported"},
		{fmt.Sprintf("socket %d", unix.AF_NETLINK), "address family not supported"},
		{fmt.Sprintf("connect unix:@rp%d", os.Getpid()), "not permitted"},
		{fmt.Sprintf("signal %d", sibling.Process.Pid), "not permitted"},
		{fmt.Sprintf("own %d", sibling.Process.Pid), "not permitted"},
		{fmt.Sprintf("option %d", unix.SO_KEEPALIVE), "done"},
		{fmt.Sprintf("option %d", unix.SO_DETACH_REUSEPORT_BPF), "not permitted"},
		{fmt.Sprintf("call %d", unix.SYS_SETRESUID), "function not implemented"},
		{fmt.Sprintf("call %d", unix.SYS_CLONE3), "function not implemented"},
	} {
		got := s.Tried("worker-logs", try.what, func() { s.Signal(syscall.SIGUSR1) })
		if !strings.Contains(got, try.want) {
			t.Errorf("%s: %s, want %s", try.what, got, try.want)
		}
	}
	for _, what := range []string{"exec /bin/true", fmt.Sprintf("call %d", unix.SYS_PTRACE), fmt.Sprintf("call %d", unix.SYS_IO_URING_SETUP)} {
		pid := s.Workers()[0]
		s.Arm("worker-logs", "try "+what)
		s.Signal(syscall.SIGUSR1)
		s.Wait("the worker to be ended by "+what, func() bool { return harness.Gone(pid) })
		s.Disarm("worker-logs")
		s.WaitLog("killed by SIGSYS")
		s.WaitStatus("the replacement to serve", func(st *control.Status) bool {
			return len(kit.Pids(st)) == 1 && kit.Pids(st)[0] != pid && serveAll(st)
		})
	}
}

// tracerEnv makes this test's binary the tracer of TestNobodyTracesWorkers; its value is the
// process that it is to leave alone.
const tracerEnv = "REUSEPORTD_TEST_TRACER"

func init() {
	if os.Getenv(tracerEnv) != "" {
		trace()
		os.Exit(0)
	}
}

// trace tries to get into every process of the machine, for as long as its standard input is open, and says
// each way that it found and, once, that it has begun.
func trace() {
	runtime.LockOSThread()
	done := make(chan bool)
	go func() {
		_, _ = os.Stdin.Read(make([]byte, 1))
		close(done)
	}()
	found := make(map[string]bool)
	say := func(pid int, way string) {
		if line := fmt.Sprintf("%d %s", pid, way); !found[line] {
			found[line] = true
			fmt.Println(line)
		}
	}
	for round := 0; ; round++ {
		select {
		case <-done:
			return
		default:
		}
		paths, _ := filepath.Glob("/proc/[0-9]*")
		for _, path := range paths {
			pid, _ := strconv.Atoi(filepath.Base(path))
			if pid == os.Getpid() {
				continue
			}
			for _, name := range []string{"environ", "mem", "fd"} {
				f, err := os.Open(path + "/" + name)
				if err != nil {
					continue
				}
				// The rights of one that is open go with the memory that it was opened for; the list of
				// descriptors is looked at anew.
				if _, err := f.ReadAt(make([]byte, 1), 0); err == nil || name == "mem" {
					say(pid, name)
				}
				if names, err := f.Readdirnames(1); err == nil && len(names) > 0 {
					say(pid, name)
				}
				_ = f.Close()
			}
			if fd, err := unix.PidfdOpen(pid, 0); err == nil {
				if got, err := unix.PidfdGetfd(fd, 3, 0); err == nil {
					_ = unix.Close(got)
					say(pid, "pidfd_getfd")
				} else if errors.Is(err, unix.EBADF) {
					say(pid, "pidfd_getfd")
				}
				_ = unix.Close(fd)
			}
			if syscall.PtraceAttach(pid) == nil {
				_, _ = syscall.Wait4(pid, nil, syscall.WALL, nil)
				_ = syscall.PtraceDetach(pid)
				say(pid, "ptrace")
			}
		}
		if round == 0 {
			fmt.Println("began")
		}
	}
}

// TestNobodyTracesWorkers: a process of the workers' user gets into none of them, at no moment
// of their starts, and into one that isn't protected by all ways that it tries.
func TestNobodyTracesWorkers(t *testing.T) {
	kit.NeedRoot(t)
	as := &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}, Pdeathsig: syscall.SIGKILL}
	victim := exec.Command("sleep", "600")
	victim.SysProcAttr = as
	kit.Must(t, victim.Start())
	defer func() { _ = victim.Process.Kill(); _ = victim.Wait() }()

	self, err := os.Executable()
	kit.Must(t, err)
	binary := filepath.Join(harness.Dir(t), "tracer")
	data, err := os.ReadFile(self)
	kit.Must(t, err)
	kit.Must(t, os.WriteFile(binary, data, 0o755))
	tracer := exec.Command(binary)
	tracer.Env = append(os.Environ(), tracerEnv+"=1")
	tracer.SysProcAttr = as
	in, err := tracer.StdinPipe()
	kit.Must(t, err)
	out, err := tracer.StdoutPipe()
	kit.Must(t, err)
	tracer.Stderr = os.Stderr
	kit.Must(t, tracer.Start())
	defer func() { _ = tracer.Process.Kill(); _ = tracer.Wait() }()
	lines := bufio.NewScanner(out)
	ways := make(map[int][]string)
	for lines.Scan() && lines.Text() != "began" {
		var pid int
		var way string
		_, _ = fmt.Sscan(lines.Text(), &pid, &way)
		ways[pid] = append(ways[pid], way)
	}

	s := harness.Start(t, harness.Default(t).With("drain_timeout: 1s"))
	born := map[int]bool{}
	for range 25 {
		for _, pid := range s.Workers() {
			born[pid] = true
		}
		s.Reload()
	}
	kit.Must(t, in.Close())
	for lines.Scan() {
		var pid int
		var way string
		_, _ = fmt.Sscan(lines.Text(), &pid, &way)
		ways[pid] = append(ways[pid], way)
	}
	if len(born) < 50 {
		t.Errorf("%d workers were started", len(born))
	}
	for _, way := range []string{"environ", "mem", "fd", "pidfd_getfd", "ptrace"} {
		if !slices.Contains(ways[victim.Process.Pid], way) {
			t.Errorf("the tracer doesn't find %s in a process that isn't protected: it proves nothing", way)
		}
	}
	for pid := range born {
		if len(ways[pid]) > 0 {
			t.Errorf("a process of the workers' user gets into worker %d by %v", pid, ways[pid])
		}
	}
}

// TestRootsAreTried: no change may turn pages into 403 in silence: what the workers' user can't
// reach is refused, with its place.
func TestRootsAreTried(t *testing.T) {
	kit.NeedRoot(t)
	c := harness.Default(t)
	s := harness.Prepare(t, c)
	root, socket := filepath.Join(s.Dir, "www"), filepath.Join(s.Dir, "app.sock")
	kit.Must(t, os.Mkdir(root, 0o700))
	kit.Must(t, os.WriteFile(filepath.Join(root, "index.html"), []byte("page"), 0o644))
	app, err := net.Listen("unix", socket)
	kit.Must(t, err)
	defer app.Close()
	kit.Must(t, os.Chmod(socket, 0o600))
	c.Listeners[0].Service = fmt.Sprintf("http: {routes: [{path: /, files: {root: %s}}, {path: /p/, proxy: {upstream: app}}]}", root)
	c = c.With(fmt.Sprintf("upstreams: [{name: app, servers: [{address: %q}]}]", "unix:"+socket))
	// As an earlier release did without a word.
	s.WriteConfig(c.With("user: root"))
	s.Run()
	s.WaitServing(1)
	if got := kit.Body(c.Address("web")); got != "page" {
		t.Fatalf("workers of root answer %q", got)
	}
	s.WriteConfig(c)
	refused := func(how, text string) {
		t.Helper()
		for _, want := range []string{"config.yaml:", "run as nobody (uid 65534), as no user is named", "can't reach the root " + root, "can't reach the socket " + socket, "permission denied", "`user: root`"} {
			if !strings.Contains(text, want) {
				t.Errorf("%s says %q, without %q", how, text, want)
			}
		}
		if got := kit.Body(c.Address("web")); got != "page" {
			t.Errorf("after the refused %s workers answer %q", how, got)
		}
	}
	r := s.CLI("check", "-c", s.ConfigPath)
	if r.Code != 1 {
		t.Errorf("check ends with %d", r.Code)
	}
	refused("check", r.Stderr)
	refused("reload", s.Change("reload").Error)
	refused("upgrade", s.Change("upgrade").Error)
	// What is done about it.
	kit.Must(t, os.Chmod(root, 0o755))
	kit.Must(t, os.Chmod(socket, 0o666))
	s.Reload()
	if got := kit.Body(c.Address("web")); got != "page" {
		t.Errorf("workers of nobody answer %q", got)
	}
	if err := app.Close(); err != nil {
		t.Error(err)
	}
	_ = os.Remove(socket)
	if r := s.CLI("check", "-c", s.ConfigPath); r.Code != 0 || !strings.Contains(r.Stdout, "is not there yet") {
		t.Errorf("check without the server: status %d, %s%s", r.Code, r.Stdout, r.Stderr)
	}
}

// TestRootBehindALink: a link that is swapped takes effect with the next change, for all workers, and
// until then the old directory is served.
func TestRootBehindALink(t *testing.T) {
	c := harness.Default(t)
	s := harness.Prepare(t, c)
	link := filepath.Join(s.Dir, "current")
	for _, release := range []string{"1", "2"} {
		dir := filepath.Join(s.Dir, "release-"+release)
		kit.Must(t, os.Mkdir(dir, 0o755))
		kit.Must(t, os.WriteFile(filepath.Join(dir, "index.html"), []byte(release), 0o644))
	}
	swap := func(release string) {
		kit.Must(t, os.Symlink(filepath.Join(s.Dir, "release-"+release), link+".next"))
		kit.Must(t, os.Rename(link+".next", link))
	}
	swap("1")
	c.Listeners[0].Service = fmt.Sprintf("http: {routes: [{path: /, files: {root: %s}}]}", link)
	s.WriteConfig(c)
	s.Run()
	s.WaitServing(1)
	for _, step := range []struct {
		do   func()
		want string
	}{
		{func() {}, "1"},
		{func() { swap("2") }, "1"},
		{func() { s.Reload() }, "2"},
	} {
		step.do()
		for range 10 {
			if got := kit.Body(c.Address("web")); got != step.want {
				t.Errorf("answer %q, want %q", got, step.want)
			}
		}
	}
}

// TestUnit: systemd's own judgement of the unit, and that it knows all of it.
func TestUnit(t *testing.T) {
	tool, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("there is no systemd-analyze here to judge the unit")
	}
	out, err := exec.Command(tool, "security", "--no-pager", "--offline=true", "../../deploy/reuseportd.service").CombinedOutput()
	text := string(out)
	if err != nil {
		t.Skipf("this systemd-analyze doesn't judge units offline: %v\n%s", err, text)
	}
	if strings.Contains(text, "Unknown") {
		t.Errorf("it doesn't know all of the unit:\n%s", text)
	}
	_, after, ok := strings.Cut(text, "exposure level for reuseportd.service: ")
	var level float64
	if _, err := fmt.Sscan(after, &level); !ok || err != nil || level > 2.5 {
		t.Errorf("exposure level %v, at most 2.5 is wanted: %s", level, after)
	}
}
