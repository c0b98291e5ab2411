package test

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"reuseportd/test/harness"
)

// Without /proc a start is refused, and says what is missing.
func TestStartWithoutProc(t *testing.T) {
	harness.Need(t, "util-linux", "unshare")
	if os.Geteuid() != 0 {
		t.Skip("only root can unmount /proc, in a mount namespace")
	}
	s := harness.Prepare(t, harness.Default(t))
	text, err := exec.Command("unshare", "-m", "sh", "-c", fmt.Sprintf("umount -l /proc; exec %s run -c %s --runtime-dir %s",
		s.Binary, s.ConfigPath, s.RuntimeDir)).CombinedOutput()
	if err == nil || !strings.Contains(string(text), "/proc is not mounted") || strings.Count(string(text), "\n") != 1 {
		t.Errorf("%v: %s", err, text)
	}
}
