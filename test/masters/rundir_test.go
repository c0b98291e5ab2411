package masters

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"reuseportd/test/harness"
	"reuseportd/test/kit"
)

// nobody is a user who is neither root nor the service's.
const nobody = 65534

// TestRuntimeDirectoryOfAnother is a runtime directory that another user has made before
// root's start, with what would pose as a worker in it.
func TestRuntimeDirectoryOfAnother(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to make what another user would")
	}
	s := harness.Prepare(t, harness.Default(t))
	shared := filepath.Join(s.Dir, "tmp")
	kit.Must(t, os.Mkdir(shared, 0o700))
	kit.Must(t, os.Chmod(shared, 0o777|os.ModeSticky))
	planted := filepath.Join(shared, "theirs")
	kit.Must(t, os.Mkdir(planted, 0o755))
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	kit.Must(t, err)
	defer unix.Close(fd)
	kit.Must(t, unix.Bind(fd, &unix.SockaddrUnix{Name: filepath.Join(planted, "worker-1-0.sock")}))
	kit.Must(t, unix.Listen(fd, 1))
	kit.Must(t, os.Lchown(planted, nobody, nobody))
	link := filepath.Join(shared, "link")
	kit.Must(t, os.Symlink(s.Dir, link))
	kit.Must(t, os.Lchown(link, nobody, nobody))
	open := filepath.Join(shared, "open")
	kit.Must(t, os.Mkdir(open, 0o700))
	kit.Must(t, os.Chmod(open, 0o777))

	for dir, want := range map[string]string{
		planted:                     "belongs to uid 65534",
		filepath.Join(link, "run2"): "is a symbolic link of uid 65534",
		open:                        "can be written to by others (mode 0777)",
		filepath.Join(open, "run"):  "can be written to by others (mode 0777)",
	} {
		r := s.CLIWithoutDir("run", "-c", s.ConfigPath, "--runtime-dir", dir)
		if r.Code != 1 || !strings.Contains(r.Stderr, want) || !strings.Contains(r.Stderr, "--unsafe-runtime-dir") {
			t.Errorf("run in %s: status %d, %s", dir, r.Code, r.Stderr)
		}
	}
	r := s.CLIWithoutDir("status", "--runtime-dir", open)
	if r.Code != 1 || !strings.Contains(r.Stderr, "can be written to by others") {
		t.Errorf("status in a directory that others can write to: %d, %s", r.Code, r.Stderr)
	}
}

// TestRelativeRuntimeDir: every command takes a directory as the shell has it, not only run.
func TestRelativeRuntimeDir(t *testing.T) {
	s := harness.Start(t, harness.Default(t).WithWorkers(1))
	here, err := os.Getwd()
	kit.Must(t, err)
	dir, err := filepath.Rel(here, s.RuntimeDir)
	kit.Must(t, err)
	for _, command := range []string{"status", "reload"} {
		if r := s.CLIWithoutDir(command, "--runtime-dir", dir); r.Code != 0 {
			t.Errorf("%s --runtime-dir %s: status %d: %s", command, dir, r.Code, r.Stderr)
		}
	}
}
