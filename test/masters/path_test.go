package masters

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"reuseportd/internal/control"
	"reuseportd/test/harness"
	"reuseportd/test/kit"
)

// local returns a configuration with a Unix socket beside the others, and its path.
func local(t *testing.T) (harness.Config, string) {
	t.Helper()
	c := harness.Default(t)
	path := filepath.Join(harness.Dir(t), "echo.sock")
	return c.WithListeners(append(c.Listeners, harness.Echo("local", "unix:"+path))...), path
}

// alone returns c with its Unix socket alone.
func alone(c harness.Config) harness.Config { return c.WithListeners(c.Listeners[2]) }

// A second service with the path of a living socket is refused, and told whose it is.
func TestPathOfAnotherService(t *testing.T) {
	c, path := local(t)
	s := harness.Start(t, c)
	conn := kit.Dial(t, "unix:"+path)
	s2 := harness.Prepare(t, alone(c))
	s2.Run()
	turnedAway(t, s2, "address already in use", holder(s.PID(), s.Binary), "listens there")
	s.Kill9Master()
	s2.Run()
	turnedAway(t, s2, "reuseportd: worker generation 1")
	kit.Adopts(t, s)
	conn.Echo("all the while")
	kit.Must(t, conn.Close())
	s.Stop()
	s2.Run()
	s2.WaitServing(1)
	s2.Stop()
}

// A Unix socket whose file is removed is made anew without being asked, and nothing that is open is lost.
func TestRemovedSocket(t *testing.T) {
	c, path := local(t)
	s := harness.Start(t, c)
	conn := kit.Dial(t, "unix:"+path)
	removed := func(when string) {
		var before, now unix.Stat_t
		kit.Must(t, unix.Lstat(path, &before))
		kit.Must(t, os.Remove(path))
		s.Wait("the path "+when, func() bool { return unix.Lstat(path, &now) == nil })
		if now.Mode != before.Mode || now.Uid != before.Uid {
			t.Errorf("%s the socket is %o of uid %d, it was %o of uid %d", when, now.Mode, now.Uid, before.Mode, before.Uid)
		}
		s.Wait("somebody to listen at it "+when, func() bool { // it is bound a moment before
			c, err := net.Dial("unix", path)
			if err == nil {
				_ = c.Close()
			}
			return err == nil
		})
		fresh := kit.Dial(t, "unix:"+path)
		fresh.Echo(when)
		kit.Must(t, fresh.Close())
		conn.Echo("still " + when)
	}
	removed("at first")
	removed("again")
	s.Upgrade()
	removed("after an upgrade")
	s.Kill9Master()
	kit.Adopts(t, s)
	removed("after adoption")
	s.WaitLog("the socket was made anew")
	s.Kill9Master()
	kit.Must(t, os.Remove(path)) // while there is no master
	kit.Adopts(t, s)
	fresh := kit.Dial(t, "unix:"+path)
	fresh.Echo("removed while there was no master")
	kit.Must(t, fresh.Close())
	kit.Must(t, conn.Close())
	s.Stop()
	if _, err := os.Lstat(path); err == nil {
		t.Error("the path is still there")
	}
}

// Who loses its path to another program says so, leaves that one's socket alone, and has the path back when
// it has gone.
func TestReplacedSocket(t *testing.T) {
	for _, when := range []string{"while it serves", "while there is no master"} {
		t.Run(when, func(t *testing.T) {
			c, path := local(t)
			s := harness.Start(t, c)
			conn := kit.Dial(t, "unix:"+path)
			master := s.PID()
			if when != "while it serves" {
				s.Kill9Master()
			}
			l, err := net.Listen("unix", path+".new")
			kit.Must(t, err)
			defer l.Close()
			l.(*net.UnixListener).SetUnlinkOnClose(false)
			kit.Must(t, os.Rename(path+".new", path))
			if when != "while it serves" {
				master = s.RunMaster().PID()
			}
			var st *control.Status
			s.Wait("the loss to be said", func() bool {
				st, err = s.TryStatus()
				return err == nil && harness.ListenerAt(st, path).Problem != ""
			})
			if l := harness.ListenerAt(st, path); !strings.Contains(l.Problem, fmt.Sprintf("PID %d (uid ", os.Getpid())) || st.PID != master {
				t.Errorf("listener %+v of master %d, want it to name %d", l, st.PID, os.Getpid())
			}
			if r := s.CLI("status"); !strings.Contains(r.Stdout, "local has LOST "+path+": ") {
				t.Errorf("status: %s", r.Stdout)
			}
			conn.Echo("what is open stays")
			if st, err := os.Lstat(path); err != nil || st.Mode().Type() != os.ModeSocket {
				t.Errorf("the other one's socket: %v, %v", st, err)
			}
			kit.Must(t, l.Close()) // and its file stays
			s.WaitStatus("the path to be back", func(st *control.Status) bool {
				return harness.ListenerAt(st, path).Problem == "" && harness.ListenerAt(st, path).Shards == 1
			})
			fresh := kit.Dial(t, "unix:"+path)
			fresh.Echo("again")
			kit.Must(t, fresh.Close())
			kit.Must(t, conn.Close())
			s.Stop()
		})
	}
}
