package changes

import (
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"reuseportd/internal/control"
	"reuseportd/test/harness"
	"reuseportd/test/kit"
)

// startWith starts one worker under a limit of descriptors.
func startWith(t *testing.T, c harness.Config, limit int) *harness.Server {
	t.Helper()
	s := harness.Prepare(t, c)
	s.Run(harness.Limit(limit, limit))
	s.WaitServing(1)
	return s
}

// lower lowers the limit of a running process, and returns what undoes that.
func lower(t *testing.T, pid int, limit uint64) (undo func()) {
	t.Helper()
	var old unix.Rlimit
	kit.Must(t, unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, &old))
	kit.Must(t, unix.Prlimit(pid, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: limit, Max: old.Max}, nil))
	return func() { kit.Must(t, unix.Prlimit(pid, unix.RLIMIT_NOFILE, &old, nil)) }
}

// Three times as many clients as there are descriptors, each with one request and then silent: each is
// answered, the longest idle go, and a change loses none of those that are left.
func TestLockOut(t *testing.T) {
	for _, threads := range []int{1, 2} {
		for _, change := range kit.BothChanges {
			t.Run(fmt.Sprintf("%d threads, %s", threads, change), func(t *testing.T) {
				const limit, clients = 400, 1200
				c := harness.Default(t).WithWorkers(1)
				c.Threads = threads
				s := startWith(t, c, limit)
				streams := kit.Echoes(t, c.Address("echo"), 20)
				conns := webs(t, c.Address("web"), clients)
				st := s.Status()
				if st.Totals.IdleClosed < clients-limit || st.Totals.Cut > 0 {
					t.Errorf("totals %+v", st.Totals)
				}
				if n := kit.Only(t, st).Connections; n < limit/2 || n > limit*7/8 {
					t.Errorf("%d connections under a limit of %d", n, limit)
				}
				answered := drainedInBackground(s, change)
				r := kit.ParseReceipt(t, (<-answered).Stdout)
				if !r.OK || r.Cut > 0 || r.HandedOver < limit/2 {
					t.Errorf("receipt %+v", r)
				}
				conns[clients-1].Get() // the latest is no longest idle one
				for _, stream := range streams {
					stream.Echo("never idle")
				}
				webs(t, c.Address("web"), 50)
				if !strings.Contains(s.Log(), "the longest idle ones are closed for others") {
					t.Error("the log doesn't say so")
				}
				if !strings.Contains(s.Log(), "no room for more connections (descriptors)") {
					t.Error("the log doesn't say that it is for descriptors")
				}
			})
		}
	}
}

// A request that comes after the server has ended an idle connection meets its end, and no RST as long as
// there are descriptors.
func TestIdleIsClosedInOrder(t *testing.T) {
	c := harness.Default(t).WithWorkers(1)
	s := startWith(t, c, 400)
	oldest := webs(t, c.Address("web"), 1)[0]
	var all []*kit.Client
	for s.Status().Totals.IdleClosed == 0 {
		all = append(all, webs(t, c.Address("web"), 5)...)
	}
	oldest.Send(kit.Get)
	oldest.WantEOF()
	all[len(all)-1].Get()
}

// Near the limit, connections that come and go end a few idle ones, and not one more each.
func TestShortConnectionsEndFewIdle(t *testing.T) {
	c := harness.Default(t).WithWorkers(1)
	s := startWith(t, c, 400)
	for s.Status().Totals.IdleClosed == 0 {
		webs(t, c.Address("web"), 5)
	}
	before := s.Status().Totals.IdleClosed
	for range 300 {
		short := kit.Dial(t, c.Address("web"))
		short.Get()
		short.Close()
	}
	if n := s.Status().Totals.IdleClosed - before; n > 64 {
		t.Errorf("300 connections, one after another, have ended %d idle ones", n)
	}
}

// At max_connections it is the same.
func TestMaxConnectionsClosesIdle(t *testing.T) {
	c := harness.Default(t).WithWorkers(1).With("max_connections: 10")
	s := harness.Start(t, c)
	pins := kit.Echoes(t, c.Address("echo"), 5)
	conns := webs(t, c.Address("web"), 30)
	conns[29].Get()
	st := s.Status()
	if n := kit.Only(t, st).Connections; n != 10 || st.Totals.IdleClosed != 25 {
		t.Errorf("%d connections, %d closed for others, want 10 and 25", n, st.Totals.IdleClosed)
	}
	s.WaitLog("no room for more connections (max_connections is 10 for each worker)")
	if strings.Contains(s.Log(), "LimitNOFILE") {
		t.Error("the log advises to raise the limit of descriptors, which was not met")
	}
	for _, pin := range pins {
		pin.Echo("never idle")
	}
}

// The reserve follows the limit: all that a small one lets in is handed over.
func TestSmallLimits(t *testing.T) {
	for _, tt := range []struct{ limit, n int }{{256, 190}, {64, 8}} {
		for _, change := range kit.BothChanges {
			t.Run(fmt.Sprintf("%d, %s", tt.limit, change), func(t *testing.T) {
				c := harness.Default(t).WithWorkers(1)
				s := startWith(t, c, tt.limit)
				conns := kit.Echoes(t, c.Address("echo"), tt.n)
				r := kit.ParseReceipt(t, (<-drainedInBackground(s, change)).Stdout)
				if !r.OK || r.HandedOver != uint64(tt.n) || r.Stayed > 0 || r.Cut > 0 {
					t.Errorf("receipt %+v", r)
				}
				for _, conn := range conns {
					conn.Echo("handed over")
				}
				webs(t, c.Address("web"), 1)
			})
		}
	}
}

// A worker whose limit was lowered below what it has open can't even take the message that names its heir:
// it says so, and is told again when there is room.
func TestHeirsWithoutDescriptors(t *testing.T) {
	c := harness.Default(t).WithWorkers(1).AsRoot() // whose limits a test may lower
	s := harness.Start(t, c)
	conns := kit.Echoes(t, c.Address("echo"), 50)
	old := kit.Only(t, s.Status()).PID
	undo := lower(t, old, 4)
	answered := drainedInBackground(s, "reload")
	s.WaitLog("a worker had no descriptor for a channel for handover")
	for _, conn := range conns {
		conn.Echo("still there")
	}
	undo()
	if r := kit.ParseReceipt(t, (<-answered).Stdout); r.HandedOver != 50 || r.Cut > 0 {
		t.Errorf("receipt %+v", r)
	}
	for _, conn := range conns {
		conn.Echo("after it")
	}
}

// A master at its limit fails the change, says why, and the old generation serves on.
func TestMasterWithoutDescriptors(t *testing.T) {
	c := harness.Default(t).WithWorkers(1)
	s := harness.Start(t, c)
	conns := append(webs(t, c.Address("web"), 5), kit.Echoes(t, c.Address("echo"), 5)...)
	open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", s.PID()))
	kit.Must(t, err)
	used := len(open)
	// One for who asks, and from none on for the change.
	for more := range 12 {
		undo := lower(t, s.PID(), uint64(used+2+more))
		r := kit.ParseReceipt(t, s.CLI("reload", "--json").Stdout)
		if r.OK && more < 3 {
			t.Errorf("%d descriptors more: %+v", more, r)
		}
		if !r.OK && !strings.Contains(r.Error, "too many open files") {
			t.Errorf("%d descriptors more: %s", more, r.Error)
		}
		if s.Status().PID == 0 {
			t.Error("no status")
		}
		undo()
	}
	for i, conn := range conns {
		if i < 5 {
			conn.Get()
		} else {
			conn.Echo("all the same")
		}
	}
	s.Reload()
}

// Whoever fills the descriptors, a client with a request gets its answer or an honest refusal, and the
// master does all that it is asked.
func TestCrowded(t *testing.T) {
	const limit, crowd = 300, 400
	slow, err := net.Listen("tcp", "127.0.0.1:0")
	kit.Must(t, err)
	defer slow.Close()
	go func() {
		for {
			conn, err := slow.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(io.Discard, conn); conn.Close() }() // and never answers
		}
	}()
	proxied := harness.Listener{Name: "web", Service: "http: {header_timeout: 2s, routes: [" +
		"{path: /, respond: {body: \"hello\\n\"}}, {path: /slow, proxy: {upstream: slow, response_timeout: 1s}}]}"}
	for _, tt := range []struct {
		name, send string
	}{
		{"silent", ""},
		{"half heads", "GET / HTTP/1.1\r\nHost: a"},
		{"proxied", "GET /slow HTTP/1.1\r\nHost: a\r\n\r\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			proxied.Address = harness.Local(t)
			c := harness.Default(t).WithWorkers(1).WithListeners(proxied).With(
				fmt.Sprintf("upstreams: [{name: slow, retries: 0, servers: [{address: %q}]}]", slow.Addr()), "drain_timeout: 2s")
			s := startWith(t, c, limit)
			var all []net.Conn
			defer func() {
				for _, conn := range all {
					conn.Close()
				}
			}()
			for range crowd {
				conn, err := net.Dial("tcp", proxied.Address)
				kit.Must(t, err)
				_, err = io.WriteString(conn, tt.send)
				kit.Must(t, err)
				all = append(all, conn)
			}
			kit.Dial(t, proxied.Address).Get() // within the harness's patience
			if st := s.Status(); st.Totals.Cut > 0 {
				t.Errorf("totals %+v", st.Totals)
			}
			s.Reload()
			kit.Dial(t, proxied.Address).Get()
			if tt.name == "proxied" { // before the reload's drain_timeout
				codes := make(map[string]int)
				for _, conn := range all {
					_ = conn.SetDeadline(time.Now().Add(harness.Within))
					b := make([]byte, 12)
					_, err := io.ReadFull(conn, b)
					codes[fmt.Sprint(string(b), err)]++
				}
				if codes["HTTP/1.1 503<nil>"]+codes["HTTP/1.1 504<nil>"] != crowd {
					t.Errorf("answers %v", codes)
				}
			}
			s.Stop()
		})
	}
}

// What the next generation has no room for stays, and that is said before and after.
func TestLessRoomIsSaid(t *testing.T) {
	c := harness.Default(t).WithWorkers(1).With("drain_timeout: 1m", "probation: 0s")
	s := startWith(t, c, 400)
	conns := webs(t, c.Address("web"), 200)
	kit.Must(t, unix.Prlimit(s.PID(), unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 160, Max: 160}, nil)) // which new workers have from it
	answered := drainedInBackground(s, "reload")
	s.WaitGeneration(2)
	s.WaitLog("the next generation has no room for more connections")
	st := s.WaitStatus("it to be counted", func(st *control.Status) bool { return st.LastChange.Stayed > 0 })
	if r := st.LastChange; !strings.Contains(r.Notice, "200 connections are open and the next generation has room for") {
		t.Errorf("receipt %+v", r)
	}
	for _, conn := range conns {
		for range 3 {
			if resp, _ := conn.Get(); resp.Close {
				break
			}
		}
	}
	r := kit.ParseReceipt(t, (<-answered).Stdout)
	if r.Cut > 0 || r.HandedOver+r.Finished != 200 || r.Stayed != r.Finished || r.HandedOver == 0 ||
		!strings.Contains(r.StayedWhy, "no descriptors left") {
		t.Errorf("receipt %+v", r)
	}
}
