package serving

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"reuseportd/internal/control"
	"reuseportd/test/harness"
	"reuseportd/test/kit"
)

// bounded is a configuration whose echo listener lets each client have n connections.
func bounded(t *testing.T, workers, n int) harness.Config {
	t.Helper()
	l := harness.Echo("echo", harness.Local(t))
	l.Service += fmt.Sprintf("\n    max_connections_per_client: %d", n)
	return harness.Default(t).WithWorkers(workers).WithListeners(l)
}

// dialAs connects as the client 127.0.0.n.
func dialAs(n int, address string) (net.Conn, error) {
	d := net.Dialer{Timeout: harness.Within, LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(n))}}
	return d.Dial("tcp", address)
}

// enter connects as a client and tries whether it is served; it is not with ECONNRESET.
func enter(n int, address string) (net.Conn, error) {
	c, err := dialAs(n, address)
	if err != nil {
		return nil, err
	}
	if err = c.SetDeadline(time.Now().Add(2 * harness.Within)); err == nil {
		err = kit.Proves(c)
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// visitors is the connections of a test, and how many were refused it.
type visitors struct {
	t       *testing.T
	address string
	refused uint64
}

func (v *visitors) enter(n int) *kit.Client {
	v.t.Helper()
	c, err := enter(n, v.address)
	if err != nil {
		v.t.Fatalf("client %d is not served: %v", n, err)
	}
	v.t.Cleanup(func() { c.Close() })
	return &kit.Client{Conn: c, T: v.t, R: bufio.NewReader(c)}
}

func (v *visitors) wantRefused(n int) {
	v.t.Helper()
	v.refused++
	c, err := enter(n, v.address)
	if err == nil {
		c.Close()
	}
	if !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
		v.t.Errorf("client %d has one connection too many, and sees %v, want a reset", n, err)
	}
}

// Who has as many connections as it may gets no more, through whatever becomes of the processes, and
// others do; what is closed or dies makes room.
func TestClientBound(t *testing.T) {
	const most = 5
	c := bounded(t, 3, most)
	s := harness.Start(t, c)
	v := &visitors{t: t, address: c.Address("echo")}
	var held []*kit.Client
	for range most {
		held = append(held, v.enter(1))
	}
	full := func(when string) {
		t.Helper()
		for range 3 {
			v.wantRefused(1)
		}
		for _, h := range held {
			h.Echo(when)
		}
		v.enter(2).Close()
	}
	full("first")
	s.ChangeOver("reload")
	full("after a reload")
	s.ChangeOver("upgrade")
	full("after an upgrade")
	s.Kill9Master()
	kit.Adopts(t, s)
	full("after an adoption")

	s.Wait("room to be made by a close", func() bool {
		held[0].Close()
		conn, err := enter(1, v.address)
		if err != nil {
			v.refused++
			return false
		}
		held[0] = &kit.Client{Conn: conn, T: t, R: bufio.NewReader(conn)}
		t.Cleanup(func() { conn.Close() })
		return true
	})
	full("after a close")

	old := s.Workers()
	s.KillWorkers(old...)
	s.WaitStatus("replacements", func(st *control.Status) bool {
		now := s.Workers()
		return len(now) == 3 && !slices.ContainsFunc(now, func(pid int) bool { return slices.Contains(old, pid) })
	})
	for i := range held {
		held[i] = v.enter(1)
	}
	full("after the workers' death")
	st := s.Status()
	if st.Totals.ClientRefused != v.refused || st.Totals.ClientUncounted != 0 {
		t.Errorf("%d refused, %d uncounted; want %d and 0", st.Totals.ClientRefused, st.Totals.ClientUncounted, v.refused)
	}
	if out := s.CLI("status").Stdout; !strings.Contains(out, fmt.Sprintf("connections refused at max_connections_per_client: %d\n", v.refused)) {
		t.Errorf("status says nothing of that:\n%s", out)
	}
}

// However many try at once and whatever changes meanwhile, no client has more served than it may.
func TestClientBoundUnderPressure(t *testing.T) {
	const most, clients, each = 4, 3, 6
	c := bounded(t, 4, most)
	s := harness.Start(t, c)
	address := c.Address("echo")
	var inside, served [clients]atomic.Int64
	var highest atomic.Int64
	var refused atomic.Uint64
	done := make(chan struct{})
	var all sync.WaitGroup
	end := sync.OnceFunc(func() {
		close(done)
		all.Wait()
	})
	t.Cleanup(end) // before the server's
	defer func() {
		if t.Failed() {
			t.Logf("%d %d %d served, %d refused, at most %d at a time", served[0].Load(), served[1].Load(), served[2].Load(), refused.Load(), highest.Load())
		}
	}()
	stay := func(n int) {
		conn, err := enter(n+1, address)
		if err != nil {
			refused.Add(1)
			if !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
				t.Errorf("client %d: %v", n+1, err)
			}
			return
		}
		defer conn.Close()
		now := inside[n].Add(1)
		defer inside[n].Add(-1) // before the close
		if now > most {
			t.Errorf("client %d has %d connections served, at most %d may be", n+1, now, most)
		}
		for old := highest.Load(); now > old && !highest.CompareAndSwap(old, now); old = highest.Load() {
		}
		for range 20 {
			if err := kit.Proves(conn); err != nil {
				t.Errorf("client %d: served, and then %v", n+1, err)
				return
			}
		}
		served[n].Add(1)
	}
	for n := range clients {
		for range each {
			all.Go(func() {
				for {
					select {
					case <-done:
						return
					default:
						stay(n)
					}
				}
			})
		}
	}
	more := func() {
		var before [clients]int64
		for n := range before {
			before[n] = served[n].Load()
		}
		s.Wait("all clients to be served", func() bool {
			for n := range before {
				if served[n].Load() < before[n]+50 {
					return false
				}
			}
			return refused.Load() > 0 && highest.Load() == most
		})
	}
	more()
	for _, change := range []string{"reload", "upgrade", "reload"} {
		s.ChangeOver(change)
		more()
	}
	end()
	s.WaitStatus("all refusals to be counted", func(st *control.Status) bool { return st.Totals.ClientRefused == refused.Load() })
}

// A handover refuses nobody who is below the bound, though connections are with two owners then.
func TestClientBoundInHandover(t *testing.T) {
	const most = 60
	c := bounded(t, 3, most)
	s := harness.Start(t, c)
	v := &visitors{t: t, address: c.Address("echo")}
	for range most - 1 {
		v.enter(1)
	}
	done := make(chan struct{})
	var visits atomic.Int64
	var all sync.WaitGroup
	all.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
			}
			if err := visit(1, v.address); err != nil {
				t.Errorf("visit %d, of a client that has %d of %d connections: %v", visits.Load(), most-1, most, err)
				return
			}
			visits.Add(1)
		}
	})
	for _, change := range []string{"reload", "upgrade", "reload", "reload"} {
		before := visits.Load()
		s.ChangeOver(change)
		s.Wait("more visits", func() bool { return visits.Load() > before+20 || t.Failed() })
	}
	close(done)
	all.Wait()
}

// visit is served once and has left, by the server's count too, when it returns.
func visit(n int, address string) error {
	c, err := enter(n, address)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		return err
	}
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		return fmt.Errorf("at the end: %w", err)
	}
	return nil
}
