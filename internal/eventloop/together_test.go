package eventloop_test

import (
	"io"
	"testing"

	"reuseportd/internal/eventloop"
)

// crowd is a server's connection that two clients' travel with, one of which passes its bytes to it; a third client's is
// alone.
type crowd struct {
	*relay
	clients [3]*tcp
	far     *tcp
	conns   [3]*eventloop.Conn
}

func newCrowd(t *testing.T) *crowd {
	t.Helper()
	b := newBackend(t)
	servers := make(map[*eventloop.Loop]*eventloop.Service)
	k := new(crowd)
	var all []*eventloop.Conn
	k.relay = moves(t, func(l *eventloop.Loop) *mover {
		servers[l] = l.NewService(&mover{kind: "server", calls: calls{received: echoes}}, 0)
		return &mover{kind: "client", calls: calls{
			opened:   func(c *eventloop.Conn) { all = append(all, c) },
			received: echoes,
		}}
	})
	for _, s := range []*server{k.from, k.to} {
		s.do(func() {
			s.service.SetUpstreams(servers[s.Loop])
			s.TravelTogether(3)
		})
	}
	for i := range k.clients {
		k.clients[i] = k.from.dial()
		ping(t, k.clients[i])
	}
	var u *eventloop.Conn
	k.from.do(func() { u, _ = k.from.Dial(servers[k.from.Loop], &b.addr) })
	k.far = b.accept(t)
	k.from.until("it is connected", func() bool { return !u.Connecting() })
	k.from.do(func() {
		k.conns = [3]*eventloop.Conn(all)
		a, b := all[0], all[1]
		k.from.Join(a, u)
		k.from.Join(b, u)
		k.from.Join(b, a) // they do already
		a.Pass(u, -1)
		u.Pass(a, -1)
	})
	return k
}

// goOn checks that each does what it did.
func (k *crowd) goOn() {
	k.t.Helper()
	for from, to := range map[*tcp]*tcp{k.clients[0]: k.far, k.far: k.clients[0], k.clients[1]: k.clients[1], k.clients[2]: k.clients[2]} {
		b := []byte{'x'}
		_, _ = from.Write(b)
		if _, err := io.ReadFull(to, b); err != nil {
			k.t.Error(err)
		}
	}
}

// What travels together moves in one parcel, and not while one of it is busy. Who passes bytes to whom stays as it was.
func TestMoveTogether(t *testing.T) {
	k := newCrowd(t)
	k.goOn()
	k.from.do(func() { k.conns[1].SetBusy(true) })
	k.drain()
	if ds := k.from.depart(100); len(ds) != 1 || ds[0].Partner != nil {
		t.Errorf("%d depart beside a busy one", len(ds))
	} else {
		k.from.give(k.to, ds)
	}
	k.goOn()
	k.from.do(func() { k.conns[1].SetBusy(false) })
	ds := k.from.depart(100)
	if len(ds) != 1 || len(ds[0].FDs()) != 3 {
		t.Fatalf("%d depart", len(ds))
	}
	k.from.do(func() { k.from.Return(&ds[0], true) })
	k.goOn()
	k.from.pass(k.to)
	k.goOn()
	if n, m := k.from.count(), k.to.count(); n.HandedOver != 3 || n.UpstreamOpen != 0 || m.TakenOver != 3 || m.UpstreamOpen != 1 {
		t.Errorf("counted %+v, %+v", n, m)
	}
}

// One that has left the others, or ended, is not what they wait for.
func TestPartOfMany(t *testing.T) {
	k := newCrowd(t)
	_ = k.clients[1].CloseWrite()
	_, _ = io.ReadAll(k.clients[1])
	k.from.until("it has ended", func() bool { return k.from.Count().Open == 2 })
	k.from.do(func() {
		if k.conns[0].Partner() == nil {
			t.Error("two are left, and don't know of each other")
		}
		k.from.Part(k.conns[0])
		if k.conns[0].Partner() != nil || k.conns[0].Passing() != 0 {
			t.Error("it is tied still")
		}
	})
	ping(t, k.clients[0])
	ping(t, k.far)
}

// More than other processes understand stay where they are, and are counted.
func TestTooManyTogether(t *testing.T) {
	k := newCrowd(t)
	k.from.do(func() { k.from.TravelTogether(0) })
	k.drain()
	if ds := k.from.depart(100); len(ds) != 1 || len(ds[0].FDs()) != 1 {
		t.Errorf("%d depart", len(ds))
	} else {
		k.from.give(k.to, ds)
	}
	k.goOn()
	if n := k.from.count(); n.Stayed != 2 {
		t.Errorf("counted %+v", n)
	}
}
