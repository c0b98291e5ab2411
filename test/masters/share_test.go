package masters

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"reuseportd/internal/control"
	"reuseportd/test/harness"
	"reuseportd/test/kit"
	"reuseportd/test/meter"
)

// sharing returns a copy of c whose listeners all say share: true.
func sharing(c harness.Config) harness.Config {
	var ls []harness.Listener
	for _, l := range c.Listeners {
		l.Service += "\n    share: true"
		ls = append(ls, l)
	}
	return c.WithListeners(ls...)
}

// holder is how a message names a process that listens.
func holder(pid int, command string) string {
	return fmt.Sprintf("PID %d (uid %d, %s", pid, os.Geteuid(), command)
}

// turnedAway wants the first master of s, which was run, to end with status 1 and these words.
func turnedAway(t *testing.T, s *harness.Server, words ...string) {
	t.Helper()
	code := s.WaitExit()
	if code != 1 {
		t.Errorf("it ended with status %d: %s", code, s.Log())
	}
	for _, w := range words {
		if !strings.Contains(s.Log(), w) {
			t.Errorf("its log doesn't say %q: %s", w, s.Log())
		}
	}
}

// A second service with another runtime directory and the same address is refused, whatever becomes of
// the first one: it is told who has the address, and no client notices.
func TestPortOfAnotherService(t *testing.T) {
	c := harness.Default(t)
	s := harness.Start(t, c)
	kit.LosingNothing(t, kit.Clients(c), func(m *meter.Meter) {
		second := func(when string) {
			m.Mark("a second service %s", when)
			s2 := harness.Prepare(t, c)
			s2.Run()
			pid := s.PID()
			turnedAway(t, s2, "address already in use", holder(pid, s.Binary+" run"), "say `share: true`", s2.ConfigPath+":")
			if r := s2.CLI("status"); r.Code != 3 {
				t.Errorf("%s: a master answers: %+v", when, r)
			}
		}
		second("at first")
		s.Reload()
		second("after a reload")
		s.Upgrade()
		second("after an upgrade")
		s.Kill9Master()
		kit.Adopts(t, s)
		second("after adoption")
		s.WaitMaster(s.RunMaster("--takeover").PID())
		second("after a takeover")
		s.WriteConfig(c.WithListeners(append(c.Listeners, harness.Echo("more", harness.Local(t)))...))
		s.Reload()
		second("after another address came")
	})
	if st := s.Status(); len(st.Listeners[0].Others) > 0 {
		t.Errorf("others: %+v", st.Listeners[0].Others)
	}
	s.Stop()
}

// A new address that another service has makes a reload fail, and nothing else.
func TestReloadToPortOfAnotherService(t *testing.T) {
	c := harness.Default(t)
	s := harness.Start(t, c)
	other := harness.Default(t)
	s2 := harness.Start(t, other)
	s.WriteConfig(c.WithListeners(append(c.Listeners, harness.Echo("more", other.Address("echo")))...))
	r := s.Change("reload")
	if r.OK || !strings.Contains(r.Error, holder(s2.PID(), s2.Binary)) {
		t.Errorf("receipt %+v", r)
	}
	if st := s.Status(); len(st.Listeners) != 2 || st.Generation != 1 {
		t.Errorf("%d listeners, generation %d", len(st.Listeners), st.Generation)
	}
	s2.Stop()
	if r := s.Reload(); !r.OK {
		t.Errorf("when it is free: %+v", r)
	}
	s.Stop()
}

// The workers of a killed master are in no record when its runtime directory is lost: who starts
// another service is told of them.
func TestPortOfLostWorkers(t *testing.T) {
	c := harness.Default(t)
	s := harness.Start(t, c)
	workers := s.Workers()
	s.Kill9Master()
	kit.Must(t, os.RemoveAll(s.RuntimeDir))
	m := s.RunMaster() // makes the directory
	if code := m.WaitExit(); code != 1 || !strings.Contains(m.Log(), holder(workers[0], "reuseportd: worker generation 1 slot 0")) {
		t.Errorf("with the directory made anew it ended with status %d: %s", code, m.Log())
	}
	s2 := harness.Prepare(t, c)
	s2.Run()
	turnedAway(t, s2, holder(workers[0], "reuseportd: worker generation 1 slot 0"), holder(workers[1], "reuseportd: worker generation 1 slot 1"), "their master is gone")
	conn := kit.Dial(t, c.Address("echo"))
	conn.Echo("served all the while")
	kit.Must(t, conn.Close())
	s.KillOrphans()
	s2.Run()
	s2.WaitServing(1)
	s2.Stop()
}

// Two services that both say share: true have one address together; with one that doesn't they are refused, and
// everybody who looks sees that.
func TestSharedPort(t *testing.T) {
	c := harness.Default(t)
	shared := sharing(c)
	s := harness.Start(t, shared)
	s2 := harness.Start(t, shared)
	s3 := harness.Prepare(t, c)
	s3.Run()
	turnedAway(t, s3, holder(s.PID(), s.Binary), holder(s2.PID(), s2.Binary))
	s.Reload()
	s2.Upgrade()
	s.Kill9Master()
	kit.Adopts(t, s)
	st := s.WaitStatus("the other one to be seen", func(st *control.Status) bool {
		return len(harness.ListenerAt(st, c.Address("web")).Others) == 1
	})
	l := harness.ListenerAt(st, c.Address("web"))
	if o := l.Others[0]; !l.Share || !o.Shared || o.PID != s2.PID() || o.Address != c.Address("web") {
		t.Errorf("listener %+v, want to share with %d", l, s2.PID())
	}
	if r := s.CLI("status"); !strings.Contains(r.Stdout, "web is sharing "+c.Address("web")+": PID ") {
		t.Errorf("status: %s", r.Stdout)
	}
	r := s.CLI("stop")
	if want := fmt.Sprintf("still answered: %s", holder(s2.PID(), s2.Binary)); r.Code != 0 || !strings.Contains(r.Stderr, want) {
		t.Errorf("stop: %+v, want %q", r, want)
	}
	s2.Stop()
}

// A service that shares doesn't get the address of one that doesn't.
func TestOnlyTheSecondShares(t *testing.T) {
	c := harness.Default(t)
	s := harness.Start(t, c)
	s2 := harness.Prepare(t, sharing(c))
	s2.Run()
	turnedAway(t, s2, holder(s.PID(), s.Binary), "it doesn't say `share: true`")
	s.WriteConfig(sharing(c))
	s.Reload()
	s2.Run()
	s2.WaitServing(1)
	s.Stop()
	s2.Stop()
}

// joiner listens at an address with SO_REUSEPORT, and asks nobody.
func joiner(t *testing.T, address string) net.Listener {
	t.Helper()
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		ctl := c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1) })
		return errors.Join(ctl, err)
	}}
	lc.SetMultipathTCP(false)
	l, err := lc.Listen(t.Context(), "tcp4", address)
	kit.Must(t, err)
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// A program that joins a port later, and asks nobody, is told of by log, status and stop.
func TestPortIsJoined(t *testing.T) {
	c := harness.Default(t)
	s := harness.Start(t, c)
	l := joiner(t, c.Address("echo"))
	st := s.WaitStatus("it to be seen", func(st *control.Status) bool {
		return len(harness.ListenerAt(st, c.Address("echo")).Others) == 1
	})
	if o := harness.ListenerAt(st, c.Address("echo")).Others[0]; o.PID != os.Getpid() || o.Shared {
		t.Errorf("other: %+v, want this process, %d", o, os.Getpid())
	}
	if r := s.CLI("status"); !strings.Contains(r.Stdout, fmt.Sprintf("echo is NOT ALONE at %s: PID %d (", c.Address("echo"), os.Getpid())) {
		t.Errorf("status: %s", r.Stdout)
	}
	s.WaitLog("another process listens at this address too")
	r := s.CLI("stop")
	if want := fmt.Sprintf("still answered: PID %d (", os.Getpid()); r.Code != 1 || !strings.Contains(r.Stderr, want) ||
		!strings.Contains(r.Stderr, "listens at "+c.Address("echo")) {
		t.Errorf("stop: %+v, want %q and status 1", r, want)
	}
	kit.Must(t, l.Close())
}

// Of two services that start at the same time, and have both found the address free, exactly one
// gets it, and every client that gets a connection is served.
func TestTwoStartAtOnce(t *testing.T) {
	c := harness.Default(t)
	for range 3 {
		s, s2 := harness.Prepare(t, c), harness.Prepare(t, c)
		for _, x := range []*harness.Server{s, s2} {
			x.Arm("ready-activate", harness.Pause)
			x.Run()
		}
		s.WaitHit("ready-activate")
		s2.WaitHit("ready-activate")
		stop := make(chan struct{})
		served := make(chan int)
		go func() {
			n := 0
			for {
				if conn, err := net.DialTimeout("tcp", c.Address("echo"), harness.Within); err == nil {
					n++
					_ = conn.SetDeadline(time.Now().Add(harness.Within))
					if err := kit.Proves(conn); err != nil {
						t.Errorf("connection %d: %v", n, err)
					}
					_ = conn.Close()
				}
				select {
				case <-stop:
					served <- n
					return
				default:
				}
			}
		}()
		s.Disarm("ready-activate")
		s2.Disarm("ready-activate")
		var winner, loser *harness.Server
		s.Wait("one to give up", func() bool {
			switch {
			case s.First().Exited():
				winner, loser = s2, s
			case s2.First().Exited():
				winner, loser = s, s2
			}
			return winner != nil
		})
		winner.WaitServing(1)
		close(stop)
		t.Logf("%d connections", <-served)
		turnedAway(t, loser, holder(winner.FirstPID(), winner.Binary))
		winner.Stop()
	}
}

// A start that loses its second address when the first one listens already ends as a stop does.
func TestLosesItsSecondAddress(t *testing.T) {
	c := harness.Default(t)
	s := harness.Prepare(t, c)
	s.Arm("ready-activate", harness.Pause)
	s.Run()
	s.WaitHit("ready-activate")
	last := max(c.Address("web"), c.Address("echo")) // they listen in this order
	l := joiner(t, last)
	s.Disarm("ready-activate")
	turnedAway(t, s, fmt.Sprintf("PID %d (", os.Getpid()), "the start has failed")
	kit.Must(t, l.Close())
}

// Sockets of another user can't be shared at all: the kernel refuses, and it is said who has them as far
// as one may know.
func TestPortOfAnotherUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to be two users")
	}
	c := harness.Default(t)
	s := harness.Start(t, c)
	s2 := harness.Prepare(t, c)
	kit.Must(t, os.Chown(s2.RuntimeDir, nobody, nobody))
	m := s2.RunMasterBy(func(cmd *exec.Cmd) {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: nobody, Gid: nobody}
	})
	if code := m.WaitExit(); code != 1 || !strings.Contains(m.Log(), "a process that can't be seen from here (uid 0, socket inode ") {
		t.Errorf("nobody's start ended with status %d: %s", code, m.Log())
	}
	s.Stop()

	address := harness.Local(t)
	s3 := harness.Prepare(t, c.WithListeners(harness.Echo("echo", address)))
	_, port, err := net.SplitHostPort(address)
	kit.Must(t, err)
	p := harness.StartProgram(t, harness.AccountDir(t), syscall.SIGTERM, func() bool {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	}, "nc", "-lk", "127.0.0.1", port)
	s3.Run()
	turnedAway(t, s3, fmt.Sprintf("PID %d (uid ", p.PID), "nc -lk 127.0.0.1")
}
