package serving

import (
	"reflect"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"reuseportd/internal/control"
	"reuseportd/test/harness"
	"reuseportd/test/kit"
)

// sampler asks for the status as fast as it is answered, and holds that no total
// ever goes back.
type sampler struct {
	t       *testing.T
	end     chan struct{}
	wg      sync.WaitGroup
	samples atomic.Int64
}

func sample(t *testing.T, s *harness.Server) *sampler {
	sa := &sampler{t: t, end: make(chan struct{})}
	sa.wg.Go(func() {
		var last control.Totals
		for {
			select {
			case <-sa.end:
				return
			default:
			}
			st, err := s.TryStatus()
			if err != nil {
				continue // one master goes, the next one comes
			}
			sa.samples.Add(1)
			if name := behind(&st.Totals, &last); name != "" {
				t.Errorf("%s went back:\n%+v, before that\n%+v", name, st.Totals, last)
			}
			last = st.Totals
		}
	})
	return sa
}

func (sa *sampler) stop() {
	close(sa.end)
	sa.wg.Wait()
	sa.t.Logf("%d samples", sa.samples.Load())
}

// behind names a total of a that is less than that of b, "" if there is none.
func behind(a, b *control.Totals) string {
	x, y := reflect.ValueOf(a).Elem(), reflect.ValueOf(b).Elem()
	for i := range x.NumField() {
		if x.Field(i).Uint() < y.Field(i).Uint() {
			return x.Type().Field(i).Name
		}
	}
	return ""
}

// account is what the clients know of the server's counts.
type account struct {
	t                 *testing.T
	accepted          uint64
	requests          uint64
	bytesIn, bytesOut uint64
	closed            uint64
}

// ask makes so many requests, each on a connection of its own that the client closes.
func (a *account) ask(address string, n int) {
	a.t.Helper()
	for range n {
		conn := kit.Dial(a.t, address)
		conn.Get()
		a.accepted, a.requests, a.closed = a.accepted+1, a.requests+1, a.closed+1
		a.bytesIn += uint64(len(kit.Get))
		conn.Close()
	}
}

// hold makes connections that stay, on which text has gone to and fro.
func (a *account) hold(address string, n int) []*kit.Client {
	a.t.Helper()
	conns := kit.Echoes(a.t, address, n)
	a.accepted += uint64(n)
	a.bytesIn += uint64(n * len("here"))
	a.bytesOut += uint64(n * len("here"))
	return conns
}

// openIn adds up the connections of all workers, whatever they do.
func openIn(st *control.Status) (n uint64) {
	for _, g := range st.Groups {
		for _, w := range g.Workers {
			n += w.Connections
		}
	}
	return n
}

// settled waits until one generation is there and the counts are what the clients
// know: each connection that was accepted is open, closed, or told as cut.
func (a *account) settled(s *harness.Server, cut, lost uint64) *control.Status {
	a.t.Helper()
	st := s.WaitStatus("the counts to be the clients'", func(st *control.Status) bool {
		return st.Change == "" && len(st.Groups) == 1 && harness.Serving(st) != nil &&
			st.Totals.HandedOver == st.Totals.TakenOver && openIn(st) == a.accepted-a.closed-cut-lost
	})
	t := st.Totals
	if t.Accepted != a.accepted || t.Requests != a.requests || t.BytesIn != a.bytesIn || t.Cut != cut+lost {
		a.t.Errorf("totals %+v; the clients know %+v, %d cut and %d lost", t, *a, cut, lost)
	}
	var handed, finished, told uint64
	for _, r := range st.Receipts {
		handed, finished, told = handed+r.HandedOver, finished+r.Finished, told+r.Cut
	}
	if handed != t.HandedOver || finished != t.Finished || told != cut {
		a.t.Errorf("receipts tell of %d handed over, %d finished and %d cut; totals %+v", handed, finished, told, t)
	}
	return st
}

// Through all that can happen to processes the totals are those of one service.
func TestTotalsNeverGoBack(t *testing.T) {
	c := harness.Default(t).With("drain_timeout: 2m", "probation: 0s")
	both, more := kit.Without(t, c)
	s := harness.Start(t, c)
	sa := sample(t, s)
	defer sa.stop()
	a := &account{t: t}
	web := c.Address("web")
	streams := a.hold(c.Address("echo"), 8)
	a.ask(web, 20)
	var cut, lost uint64
	for _, step := range []struct {
		name string
		do   func()
	}{
		{"reload", func() { s.Reload() }},
		{"upgrade", func() { s.Upgrade() }},
		{"four workers", func() { s.WriteConfig(c.WithWorkers(4)); s.Reload() }},
		{"one worker", func() { s.WriteConfig(c.WithWorkers(1)); s.Upgrade() }},
		{"a listener more", func() { s.WriteConfig(both); s.Reload() }},
		{"its removal, with connections that end and others that don't", func() {
			end := a.hold(more, 3)
			a.hold(more, 2)
			s.WriteConfig(c)
			s.Reload()
			for _, conn := range end {
				conn.Close()
			}
			s.WaitStatus("three to be finished", func(st *control.Status) bool { return st.Totals.Finished == 3 })
			// With the generation that goes now that is one too many.
			s.WriteConfig(c.With("max_draining: 1"))
			s.Reload()
			s.WriteConfig(c)
			a.closed, cut = a.closed+3, cut+2
		}},
		{"a worker killed", func() {
			for pid, w := range kit.Workers(s.Status()) {
				lost += w.Connections
				kit.Must(t, syscall.Kill(pid, syscall.SIGKILL))
				kit.Replaced(s, pid, 2)
				break
			}
		}},
		{"all workers killed", func() {
			for pid, w := range kit.Workers(s.Status()) {
				lost += w.Connections
				kit.Must(t, syscall.Kill(pid, syscall.SIGKILL))
			}
			s.WaitStatus("two workers", func(st *control.Status) bool { return len(kit.Workers(st)) == 2 && openIn(st) == 0 })
			streams = a.hold(c.Address("echo"), 5)
		}},
		{"an upgrade that fails", func() {
			s.Replace(harness.Exits)
			s.Change("upgrade")
			s.Install(harness.Build(t))
		}},
		{"an upgrade that fails past the commit point", func() {
			s.Arm("ready-activate", harness.Error)
			s.Change("upgrade")
			s.Disarm("ready-activate")
		}},
		{"upgrade and reload at once", func() {
			s.Upgrade()
			s.Reload()
		}},
	} {
		step.do()
		a.ask(web, 5)
		a.settled(s, cut, lost)
		if t.Failed() {
			t.Fatalf("after: %s", step.name)
		}
	}
	for _, conn := range streams {
		conn.Close()
	}
	a.closed += 5
	if st := a.settled(s, cut, lost); openIn(st) != 0 {
		t.Errorf("%d connections are open", openIn(st))
	}
}

// The same while clients come and go all the time, with nobody killed: in the end
// every connection was accepted once and ended once.
func TestTotalsUnderLoad(t *testing.T) {
	c := harness.Default(t).With("probation: 0s")
	s := harness.Start(t, c)
	sa := sample(t, s)
	defer sa.stop()
	a := &account{t: t}
	end := make(chan struct{})
	var load sync.WaitGroup
	load.Go(func() {
		for {
			select {
			case <-end:
				return
			default:
				if got := kit.Body(c.Address("web")); got != "hello\n" {
					t.Errorf("answer %q", got)
				}
				a.accepted, a.requests, a.closed = a.accepted+1, a.requests+1, a.closed+1
			}
		}
	})
	streams := kit.Echoes(t, c.Address("echo"), 10)
	for i := range 3 {
		s.WriteConfig(c.WithWorkers(1 + i))
		s.Reload()
		s.Upgrade()
	}
	close(end)
	load.Wait()
	a.accepted += 10
	st := s.WaitStatus("the counts to be the clients'", func(st *control.Status) bool {
		return len(st.Groups) == 1 && openIn(st) == 10 && st.Totals.HandedOver == st.Totals.TakenOver
	})
	if tot := st.Totals; tot.Accepted != a.accepted || tot.Requests != a.requests || tot.Cut != 0 {
		t.Errorf("totals %+v; the clients know %+v", tot, *a)
	}
	var handed, finished uint64
	for _, r := range st.Receipts {
		handed, finished = handed+r.HandedOver, finished+r.Finished
	}
	if handed != st.Totals.HandedOver || finished != st.Totals.Finished || handed < 60 {
		t.Errorf("receipts tell of %d handed over and %d finished; totals %+v", handed, finished, st.Totals)
	}
	for _, conn := range streams {
		conn.Echo("through it all")
	}
}
