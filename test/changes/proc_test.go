package changes

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
	for _, tt := range []struct{ name, before string }{
		{"none", "while umount -l /proc 2>/dev/null; do :; done"},
		{"another namespace's", "unshare -p -f --kill-child"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			run := fmt.Sprintf("%s run -c %s --runtime-dir %s", s.Binary, s.ConfigPath, s.RuntimeDir)
			script := tt.before + "; exec " + run
			if strings.HasPrefix(tt.before, "unshare") { // as PID 2: PID 1 is the parent of a master
				script = tt.before + " sh -c '" + run + "; exit $?'"
			}
			text, err := exec.Command("unshare", "-m", "sh", "-c", script).CombinedOutput()
			if err == nil || !strings.Contains(string(text), "/proc is not mounted, or") || strings.Contains(string(text), `"level"`) {
				t.Errorf("%v: %s", err, text)
			}
		})
	}
}
