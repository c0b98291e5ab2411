package services

import (
	"fmt"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"reuseportd/test/harness"
)

// SSH is an SSH server that lets in the one user it runs as.
type SSH struct {
	*harness.Program
	Port int
	user *user.User
	t    testing.TB
}

// StartSSH makes keys for host and user, and serves.
func StartSSH(t testing.TB) *SSH {
	t.Helper()
	harness.Need(t, "openssh-server openssh-client", "/usr/sbin/sshd", "ssh", "ssh-keygen")
	s := &SSH{Port: harness.Port(t), t: t}
	s.user, _ = harness.Account(t)
	dir := harness.AccountDir(t)
	for _, key := range []string{"host", "user"} {
		harness.RunAs(t, dir, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key)
	}
	config := fmt.Sprintf(`Port %d
ListenAddress 127.0.0.1
HostKey %s/host
AuthorizedKeysFile %[2]s/user.pub
PidFile none
UsePAM no
StrictModes no
PasswordAuthentication no
`, s.Port, dir)
	// Told in a file, for sshd reads it again for each connection.
	file := filepath.Join(dir, "config")
	if err := os.WriteFile(file, []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	ready := func() bool {
		c, err := net.DialTimeout("tcp", s.Address(), time.Second)
		if err == nil {
			c.Close()
		}
		return err == nil
	}
	s.Program = harness.StartProgram(t, dir, syscall.SIGTERM, ready, "/usr/sbin/sshd", "-D", "-e", "-f", file)
	return s
}

// Address is the server's own.
func (s *SSH) Address() string { return fmt.Sprintf("127.0.0.1:%d", s.Port) }

// Session starts a command on the server. Keys are exchanged anew every 512 KiB.
func (s *SSH) Session(address, command string) *Talk {
	s.t.Helper()
	host, port, _ := strings.Cut(address, ":")
	known := filepath.Join(s.t.TempDir(), "known")
	key, err := os.ReadFile(filepath.Join(s.Dir, "host.pub"))
	if err == nil {
		err = os.WriteFile(known, fmt.Appendf(nil, "[%s]:%s %s", host, port, key), 0o644)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	return StartTalk(s.t, "ssh", "-F", "none", "-T", "-o", "BatchMode=yes", "-o", "LogLevel=ERROR", "-o", "RekeyLimit=512K",
		"-o", "UserKnownHostsFile="+known, "-o", "StrictHostKeyChecking=yes", "-o", "IdentitiesOnly=yes",
		"-i", filepath.Join(s.Dir, "user"), "-p", port, s.user.Username+"@"+host, command)
}
