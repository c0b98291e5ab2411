package test

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"reuseportd/test/harness"
)

// nameServer answers every question for an IPv4 address with ip, and all others with nothing.
func nameServer(t *testing.T, at string, ip [4]byte) {
	t.Helper()
	conn, err := net.ListenPacket("udp", at)
	if err != nil {
		t.Skipf("no name server can be here: %v", err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	go func() {
		buf := make([]byte, 1500)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			// RFC 1035 section 4.1: a header of 12 bytes, the name, type and class.
			end := 12 + bytes.IndexByte(buf[12:n], 0) + 5
			if n < 17 || end > n {
				continue
			}
			answer := append([]byte{buf[0], buf[1], 0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0}, buf[12:end]...)
			if buf[end-3] == 1 { // A
				answer[7] = 1
				answer = append(answer, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4)
				answer = append(answer, ip[:]...)
			}
			_, _ = conn.WriteTo(answer, from)
		}
	}()
}

// TestNamesInTheSandbox: names are looked up by workers that are kept in, and a resolv.conf that is
// replaced by a rename is heeded.
func TestNamesInTheSandbox(t *testing.T) {
	needRoot(t)
	if err := exec.Command("unshare", "-m", "true").Run(); err != nil {
		t.Skipf("no mount namespace is to be had, in which /etc could be another one: %v", err)
	}
	nameServer(t, "127.0.53.1:53", [4]byte{127, 0, 0, 1})
	nameServer(t, "127.0.53.2:53", [4]byte{127, 0, 0, 2})
	port := harness.Port(t)
	app := harness.Default(t)
	app = app.WithListeners(
		harness.Answer("one", fmt.Sprintf("127.0.0.1:%d", port), "one"),
		harness.Answer("two", fmt.Sprintf("127.0.0.2:%d", port), "two"),
	).WithWorkers(1)
	harness.Start(t, app)

	c := harness.Default(t).With(fmt.Sprintf("upstreams: [{name: app, resolve_every: 1s, servers: [{address: \"app.test:%d\"}]}]", port))
	c.Listeners[0].Service = "http: {routes: [{proxy: {upstream: app}}]}"
	s := harness.Prepare(t, c)
	etc := filepath.Join(s.Dir, "etc")
	must(t, os.Mkdir(etc, 0o755))
	resolvConf := func(ip string) {
		must(t, os.WriteFile(etc+"/resolv.conf.next", []byte("nameserver "+ip+"\n"), 0o644))
		must(t, os.Rename(etc+"/resolv.conf.next", etc+"/resolv.conf"))
	}
	resolvConf("127.0.53.1")
	for name, text := range map[string]string{
		"passwd": "root:x:0:0::/:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n", "group": "root:x:0:\nnogroup:x:65534:\n",
		"nsswitch.conf": "hosts: files dns\n", "hosts": "127.0.0.1 localhost\n",
	} {
		must(t, os.WriteFile(filepath.Join(etc, name), []byte(text), 0o644))
	}
	script := s.Script(fmt.Sprintf("exec unshare -m sh -c 'mount --bind %s /etc && exec \"$@\"' sh \"$@\"", etc))
	s.Run(func(s *harness.Server, cmd *exec.Cmd) {
		cmd.Path, cmd.Args = script, append([]string{script, s.Binary}, cmd.Args[1:]...)
	})
	st := s.WaitServing(1)
	for _, w := range harness.Serving(st).Workers {
		if w.Sandbox == nil || !w.Sandbox.Seccomp {
			t.Errorf("worker %d isn't kept in: %+v", w.PID, w.Sandbox)
		}
	}
	if got := body(c.Address("web")); got != "one\n" {
		t.Fatalf("answer %q of the server that the first name server names", got)
	}
	resolvConf("127.0.53.2")
	s.Wait("workers to ask the other name server", func() bool { return body(c.Address("web")) == "two\n" })
}
