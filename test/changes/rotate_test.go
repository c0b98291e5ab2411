package changes

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"reuseportd/internal/control"
	"reuseportd/test/harness"
	"reuseportd/test/kit"
)

// logs is a server whose master and listeners each write to a file in one directory.
type logs struct {
	*harness.Server
	config harness.Config
	dir    string
	rounds int
}

var logNames = []string{"error.log", "access.log", "second.log"}

func startLogs(t *testing.T) *logs {
	t.Helper()
	dir := harness.Dir(t)
	path := func(name string) string { return filepath.Join(dir, name) }
	listener := func(name, file string) harness.Listener {
		l := harness.Web(name, harness.Local(t))
		l.Service = strings.Replace(l.Service, "{routes:", fmt.Sprintf("{access_log: {file: %q}, routes:", path(file)), 1)
		return l
	}
	c := harness.Default(t).With("start_timeout: 30s", "drain_timeout: 5m", fmt.Sprintf("log: {file: %q}", path("error.log"))).
		WithListeners(listener("web", "access.log"), listener("second", "second.log"), harness.Echo("echo", harness.Local(t)))
	return &logs{Server: harness.Start(t, c), config: c, dir: dir}
}

// rotate renames every log and sends SIGUSR1 to a process, 0 being the one that the PID file names.
func (l *logs) rotate(t *testing.T, pid int) {
	t.Helper()
	l.rounds++
	for _, name := range logNames {
		kit.Must(t, os.Rename(filepath.Join(l.dir, name), filepath.Join(l.dir, fmt.Sprintf("%s.%d", name, l.rounds))))
	}
	if pid == 0 {
		pid = l.PIDFile()
	}
	if err := unix.Kill(pid, unix.SIGUSR1); err != nil && err != unix.ESRCH { // ended meanwhile
		t.Fatal(err)
	}
}

// stale says of each descriptor of a process of the server that leads to a log which is not the one
// at its path by device and inode, and of each process that has not all logs open.
func (l *logs) stale() (faults []string) {
	current := make(map[string]bool)
	for _, name := range logNames {
		if id, ok := fileID(filepath.Join(l.dir, name)); ok {
			current[id] = true
		} else {
			faults = append(faults, name+" is missing")
		}
	}
	for _, pid := range l.Processes() {
		open := make(map[string]bool)
		fds, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
		for _, fd := range fds {
			path, _ := os.Readlink(fd)
			if !strings.HasPrefix(path, l.dir+"/") {
				continue
			}
			id, ok := fileID(fd)
			if ok && !current[id] {
				faults = append(faults, fmt.Sprintf("process %d has %s open", pid, path))
			}
			open[id] = true
		}
		if len(open) < len(logNames) {
			faults = append(faults, fmt.Sprintf("process %d has %d of the logs open", pid, len(open)))
		}
	}
	return faults
}

func fileID(path string) (string, bool) {
	var st unix.Stat_t
	if unix.Stat(path, &st) != nil {
		return "", false
	}
	return fmt.Sprint(st.Dev, ":", st.Ino), true
}

// waitCurrent waits until all files are the ones that stand at their paths.
func (l *logs) waitCurrent(t *testing.T) {
	t.Helper()
	var faults []string
	defer func() {
		if t.Failed() {
			t.Logf("logs: %s", strings.Join(faults, "; "))
		}
	}()
	l.Wait("all logs to be those at their paths", func() bool {
		faults = l.stale()
		return len(faults) == 0
	})
}

// A rotation in each window of an upgrade, heard by the old master or by the next one, reaches
// everybody: the next generation, whose files were open before, and the old one, which drains.
func TestRotationDuringUpgrade(t *testing.T) {
	for _, tt := range []struct {
		window string
		old    bool // the signal goes to the old master, whose PID was read before
	}{
		{"worker-ready", true},
		{"custody-sent", true},
		{"custody-sent", false},
		{"custody-received", true},
		{"ready-activate", true},
		{"ready-activate", false},
		{"activate-drain", true},
	} {
		t.Run(fmt.Sprintf("%s, to the old master %v", tt.window, tt.old), func(t *testing.T) {
			l := startLogs(t)
			old := l.PID()
			stream := kit.Dial(t, l.config.Address("echo")) // which stays, for the next generation has no such listener
			stream.Echo("the first generation")
			l.WriteConfig(l.config.WithListeners(l.config.Listeners[:2]...))
			l.Arm(tt.window, harness.Pause)
			changed := make(chan *control.Receipt, 1)
			go func() { changed <- l.Change("upgrade") }()
			l.WaitHit(tt.window)
			pid := 0
			if tt.old {
				pid = old
			}
			l.rotate(t, pid)
			l.Disarm(tt.window)
			if r := <-changed; !r.OK {
				t.Fatalf("receipt %+v", r)
			}
			l.WaitPID(old)
			stream.Echo("drains")
			if n := len(l.AllWorkers()); n < 3 {
				t.Errorf("%d workers, want an old one beside the two", n)
			}
			l.waitCurrent(t)
			stream.CloseWrite()
			stream.WantEOF()
			l.Stop()
		})
	}
}

// As an operator's script does it: beside an upgrade that nothing holds, which has started so many
// processes.
func TestRotationBesideUpgrades(t *testing.T) {
	l := startLogs(t)
	for round := range 20 {
		old, before := l.PID(), len(l.Processes())
		changed := make(chan *control.Receipt, 1)
		go func() { changed <- l.Change("upgrade") }()
		l.Wait("the upgrade to start processes", func() bool {
			return len(changed) > 0 || len(l.Processes()) >= before+round%4
		})
		l.rotate(t, 0)
		if r := <-changed; !r.OK {
			t.Fatalf("receipt %+v", r)
		}
		l.WaitPID(old)
		l.waitCurrent(t)
	}
	l.Stop()
}

// A rotation that nobody could hear, since there was no master: whoever comes to the workers has them
// go over to the new files.
func TestRotationWithoutMaster(t *testing.T) {
	l := startLogs(t)
	l.Kill9Master()
	for _, name := range logNames {
		kit.Must(t, os.Rename(filepath.Join(l.dir, name), filepath.Join(l.dir, name+".1")))
	}
	stream := kit.Dial(t, l.config.Address("echo"))
	stream.Echo("an orphan")
	l.WriteConfig(l.config.WithListeners(l.config.Listeners[:2]...)) // so that an orphan stays
	m := l.RunMaster()
	l.WaitMaster(m.PID())
	stream.Echo("drains")
	l.waitCurrent(t)
	stream.CloseWrite()
	stream.WantEOF()
	l.Stop()
}
