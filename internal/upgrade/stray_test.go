package upgrade

import (
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"reuseportd/internal/record"
)

// TestStrayIsAnothers: where the kernel gives no pidfd of a listener, its PID may have come to mean a process
// of another user, root's for one. That isn't ended.
func TestStrayIsAnothers(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("takes two users")
	}
	for _, c := range []struct {
		name              string
		listened, process uint32
		want              string
	}{
		{"root's", 65534, 0, "belongs to uid 0"},
		{"another's", 65534, 65533, "belongs to uid 65533"},
		{"the listener's", 65534, 65534, ""},
	} {
		cmd := exec.Command("sleep", "600")
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: c.process, Gid: 65534}, Pdeathsig: syscall.SIGKILL}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		pidfd, err := unix.PidfdOpen(cmd.Process.Pid, 0)
		if err != nil {
			t.Fatal(err)
		}
		s := stray{name: "worker-1-0.sock", fd: -1, peer: record.Peer{PIDFD: pidfd, PID: cmd.Process.Pid, UID: c.listened}}
		err = s.end()
		ended := record.Ended(pidfd, 0)
		if c.want == "" && (err != nil || !ended) || c.want != "" && (err == nil || ended || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: error %v, ended %t", c.name, err, ended)
		}
		s.close()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
}
