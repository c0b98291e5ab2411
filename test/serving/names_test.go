package serving

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"

	"reuseportd/internal/control"
	"reuseportd/test/harness"
	"reuseportd/test/kit"
)

// nameServer answers every question for an IPv4 address with those of its last answer, and all
// others with nothing. Without an answer it fails.
type nameServer struct{ addrs atomic.Pointer[[][4]byte] }

func (s *nameServer) answer(addrs ...[4]byte) { s.addrs.Store(&addrs) }

func newNameServer(t *testing.T, at string) *nameServer {
	t.Helper()
	conn, err := net.ListenPacket("udp", at)
	if err != nil {
		t.Skipf("no name server can be here: %v", err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	s := new(nameServer)
	s.answer()
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
			addrs := *s.addrs.Load()
			if len(addrs) == 0 {
				answer[3] |= 2 // SERVFAIL
			}
			if buf[end-3] == 1 { // A
				answer[7] = byte(len(addrs))
				for _, ip := range addrs {
					answer = append(answer, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4)
					answer = append(answer, ip[:]...)
				}
			}
			_, _ = conn.WriteTo(answer, from)
		}
	}()
	return s
}

// behindNames starts a server that passes requests on to app.test, which it looks up as
// resolvConf says; again starts another master.
func behindNames(t *testing.T, workers int) (s *harness.Server, address string, resolvConf func(ip string), again func() *harness.Master) {
	t.Helper()
	kit.NeedRoot(t)
	if err := exec.Command("unshare", "-m", "true").Run(); err != nil {
		t.Skipf("no mount namespace is to be had, in which /etc could be another one: %v", err)
	}
	port := harness.Port(t)
	app := harness.Default(t)
	app = app.WithListeners(
		harness.Answer("one", fmt.Sprintf("127.0.0.1:%d", port), "one"),
		harness.Answer("two", fmt.Sprintf("127.0.0.2:%d", port), "two"),
	).WithWorkers(1)
	harness.Start(t, app)

	c := harness.Default(t).With(fmt.Sprintf("upstreams: [{name: app, resolve_every: 1s, servers: [{address: \"app.test:%d\"}]}]", port)).WithWorkers(workers)
	c.Listeners[0].Service = "http: {routes: [{proxy: {upstream: app}}]}"
	s = harness.Prepare(t, c)
	etc := filepath.Join(s.Dir, "etc")
	kit.Must(t, os.Mkdir(etc, 0o755))
	resolvConf = func(ip string) {
		kit.Must(t, os.WriteFile(etc+"/resolv.conf.next", []byte("nameserver "+ip+"\n"), 0o644))
		kit.Must(t, os.Rename(etc+"/resolv.conf.next", etc+"/resolv.conf"))
	}
	resolvConf("127.0.53.1")
	for name, text := range map[string]string{
		"passwd": "root:x:0:0::/:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n", "group": "root:x:0:\nnogroup:x:65534:\n",
		"nsswitch.conf": "hosts: files dns\n", "hosts": "127.0.0.1 localhost\n",
	} {
		kit.Must(t, os.WriteFile(filepath.Join(etc, name), []byte(text), 0o644))
	}
	script := s.Script(fmt.Sprintf("exec unshare -m sh -c 'mount --bind %s /etc && exec \"$@\"' sh \"$@\"", etc))
	there := func(cmd *exec.Cmd) {
		cmd.Path, cmd.Args = script, append([]string{script, s.Binary}, cmd.Args[1:]...)
	}
	s.Run(func(_ *harness.Server, cmd *exec.Cmd) { there(cmd) })
	return s, c.Address("web"), resolvConf, func() *harness.Master { return s.RunMasterBy(there) }
}

// TestNamesInTheSandbox: names are looked up by workers that are kept in, and a resolv.conf that is
// replaced by a rename is heeded.
func TestNamesInTheSandbox(t *testing.T) {
	newNameServer(t, "127.0.53.1:53").answer([4]byte{127, 0, 0, 1})
	newNameServer(t, "127.0.53.2:53").answer([4]byte{127, 0, 0, 2})
	s, web, resolvConf, _ := behindNames(t, 1)
	st := s.WaitServing(1)
	for _, w := range harness.Serving(st).Workers {
		if w.Sandbox == nil || !w.Sandbox.Seccomp {
			t.Errorf("worker %d isn't kept in: %+v", w.PID, w.Sandbox)
		}
	}
	if got := kit.Body(web); got != "one\n" {
		t.Fatalf("answer %q of the server that the first name server names", got)
	}
	resolvConf("127.0.53.2")
	s.Wait("workers to ask the other name server", func() bool { return kit.Body(web) == "two\n" })
}

// TestWithdrawnAddressStaysAway: what a name no longer stands for gets no request while names can't
// be looked up, whatever becomes of workers and masters.
func TestWithdrawnAddressStaysAway(t *testing.T) {
	dns := newNameServer(t, "127.0.53.1:53")
	dns.answer([4]byte{127, 0, 0, 1}, [4]byte{127, 0, 0, 2})
	s, web, _, again := behindNames(t, 2)
	s.WaitServing(1)
	// A round through all servers of each of the two workers, whichever the kernel gives a connection to.
	only := func() bool {
		for range 16 {
			if kit.Body(web) != "two\n" {
				return false
			}
		}
		return true
	}
	s.Wait("requests at the first address", func() bool { return kit.Body(web) == "one\n" })
	dns.answer([4]byte{127, 0, 0, 2})
	s.Wait("the first address to be withdrawn", only)
	dns.answer()
	s.WaitLog("the one of before goes on")

	check := func(what string) {
		t.Helper()
		if !only() {
			t.Errorf("%s: the withdrawn address gets requests, or the other none", what)
		}
	}
	s.Reload()
	check("after a reload")
	replaced := func() {
		t.Helper()
		pids := s.Workers()
		s.KillWorkers(pids...)
		s.WaitStatus("workers to be replaced", func(st *control.Status) bool {
			now := s.Workers()
			return st.Change == "" && len(now) == len(pids) && !slices.ContainsFunc(now, func(pid int) bool { return slices.Contains(pids, pid) })
		})
	}
	replaced()
	check("after the death of all workers")
	s.Upgrade()
	check("after an upgrade")
	s.Kill9Master()
	check("without a master")
	s.WaitMaster(again().PID())
	check("after adoption")
	replaced()
	check("after adoption and the death of all workers")
	s.Stop()
}
