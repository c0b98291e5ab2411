package worker

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"reuseportd/internal/config"
	"reuseportd/internal/eventloop"
	"reuseportd/internal/handover"
	"reuseportd/internal/service/echo"
	"reuseportd/internal/stats"
	"reuseportd/internal/wire"
)

const testKey = "127.0.0.1:7"

// taker is a worker with one loop that echoes, and a channel to a giver.
type taker struct {
	*worker
	t     *testing.T
	lp    *loop
	wd    *ward
	giver *wire.Conn
}

func newTaker(t *testing.T) *taker {
	t.Helper()
	el, err := eventloop.New(eventloop.Options{})
	if err != nil {
		t.Fatal(err)
	}
	ledger, err := stats.NewLedger()
	if err != nil {
		t.Fatal(err)
	}
	giver, far, err := wire.Pair()
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.FcntlInt(far.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	far.Close()
	port, err := wire.NewPort(fd)
	if err != nil {
		t.Fatal(err)
	}
	w := &worker{
		log: zerolog.Nop(), mail: newMailbox(), orphan: true,
		conf: &config.Config{}, region: ledger.Region, budget: eventloop.NewBudget(),
	}
	lp := &loop{Loop: el, w: w, services: map[string]*eventloop.Service{testKey: el.NewService(echo.New(el, 0), 0)}}
	w.loops = []*loop{lp}
	tk := &taker{worker: w, t: t, lp: lp, wd: &ward{port: port}, giver: giver}
	done := make(chan error, 1)
	go func() { done <- el.Run() }()
	t.Cleanup(func() {
		el.Post(func() { lp.endWards(); el.Cut(); el.Stop() })
		if err := <-done; err != nil {
			t.Error(err)
		}
		port.Close()
		_ = giver.Close()
		_ = ledger.Close()
	})
	return tk
}

// do calls f on the loop's goroutine and waits for it.
func (tk *taker) do(f func()) {
	done := make(chan struct{})
	tk.lp.Post(func() {
		f()
		close(done)
	})
	<-done
}

// item makes a connection and returns the client's end, which is blocking.
func (tk *taker) item(key string) (handover.Item, *os.File) {
	tk.t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		tk.t.Fatal(err)
	}
	if err := unix.SetNonblock(pair[0], true); err != nil {
		tk.t.Fatal(err)
	}
	client := os.NewFile(uintptr(pair[1]), "client")
	tk.t.Cleanup(func() { client.Close() })
	return handover.Item{Key: key, Parcel: eventloop.Parcel{FD: pair[0], File: -1, Kind: "echo.1"}}, client
}

// offer is what a giver sends with number 7. The connections are in it alone.
func (tk *taker) offer(items ...handover.Item) wire.Message {
	tk.t.Helper()
	b, fds, format := handover.Encode(items)
	memfd, err := wire.Memfd("test", b)
	if err != nil {
		tk.t.Fatal(err)
	}
	body, err := json.Marshal(wire.Offer{Seq: 7, Format: format})
	if err != nil {
		tk.t.Fatal(err)
	}
	return wire.Message{Kind: wire.KindOffer, Body: body, FDs: append([]int{memfd}, fds...)}
}

func (tk *taker) answer() (a wire.Answer) {
	tk.t.Helper()
	m, err := tk.giver.Recv()
	if err != nil {
		tk.t.Fatal(err)
	}
	if err := m.Decode(&a); err != nil || m.Kind != wire.KindAnswer {
		tk.t.Fatalf("got %s, %v", m.Kind, err)
	}
	return a
}

func echoed(t *testing.T, c *os.File) {
	t.Helper()
	p := []byte("x")
	if _, err := c.Write(p); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, p); err != nil {
		t.Fatal(err)
	}
}

func closed(t *testing.T, c *os.File) {
	t.Helper()
	if n, err := c.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("read %d bytes, %v", n, err)
	}
}

// The giver is told what was taken and what was not.
func TestTakeOffer(t *testing.T) {
	tk := newTaker(t)
	a, clientA := tk.item(testKey)
	b, clientB := tk.item("a listener that is gone")
	c, clientC := tk.item(testKey)
	idle, server := tk.item("upstream:one that is gone") // nobody misses it
	m := tk.offer(a, b, c, idle)
	tk.do(func() { tk.lp.takeOffer(tk.wd, m) })
	if got := tk.answer(); got.Seq != 7 || got.None || len(got.Refused) != 1 || got.Refused[0] != 1 || got.Reason == "" {
		t.Errorf("answered %+v", got)
	}
	echoed(t, clientA)
	closed(t, clientB)
	echoed(t, clientC)
	closed(t, server)
}

// What a giver sends beyond what it was granted is taken as long as nobody else has been promised
// the room.
func TestTakeOfferBeyondGrant(t *testing.T) {
	const many = 8
	tk := newTaker(t)
	offer := func() (clients []*os.File) {
		var items []handover.Item
		for range many {
			it, client := tk.item(testKey)
			items, clients = append(items, it), append(clients, client)
		}
		m := tk.offer(items...)
		tk.do(func() { tk.lp.takeOffer(tk.wd, m) })
		return clients
	}
	offer()
	if got := tk.answer(); got.None || len(got.Refused) > 0 {
		t.Errorf("with room: %+v", got)
	}
	for tk.worker.budget.Promise(1<<20) >= many { // until none is left
	}
	tk.do(func() { tk.lp.w.ungrant(tk.wd, tk.wd.granted) })
	for tk.worker.budget.Promise(1<<20) >= many {
	}
	clients := offer()
	for { // a grant may be between
		m, err := tk.giver.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if m.Kind != wire.KindAnswer {
			continue
		}
		var got wire.Answer
		if err := m.Decode(&got); err != nil || !got.None || !strings.Contains(got.Reason, "8 descriptors come, 0 were granted") {
			t.Errorf("without: %+v, error %v", got, err)
		}
		break
	}
	for _, c := range clients {
		closed(t, c)
	}
}

// However many lines other workers lead to, few are written, and none is long.
func TestWarnings(t *testing.T) {
	var w warnings
	now, written := time.Unix(1, 0), 0
	for range 10 * warningsMost {
		if ok, _ := w.take(now); ok {
			written++
		}
	}
	ok, left := w.take(now.Add(warningsEvery))
	if written != warningsMost || !ok || left != 9*warningsMost {
		t.Errorf("%d lines, then %t with %d left out", written, ok, left)
	}
	if got := spoken(strings.Repeat("\x1b[2J", spokenMost)); len(got) > spokenMost+len("…") || strings.Contains(got, "\x1b") {
		t.Errorf("spoken %q", got)
	}
}

// A giver that is dead has given.
func TestTakeOfferOfTheDead(t *testing.T) {
	tk := newTaker(t)
	_ = tk.giver.Close()
	a, client := tk.item(testKey)
	m := tk.offer(a)
	tk.do(func() { tk.lp.takeOffer(tk.wd, m) })
	echoed(t, client)
}

// What a giver that lives can't be told of is the giver's still, and by the end of
// the channel it knows.
func TestTakeOfferUntold(t *testing.T) {
	tk := newTaker(t)
	for tk.wd.port.Send(wire.KindGrant, wire.Grant{}) == nil { // until the giver's queue is full
	}
	a, client := tk.item(testKey)
	m := tk.offer(a)
	tk.do(func() {
		if err := tk.lp.Watch(tk.wd.port.FD(), func() {}); err != nil {
			t.Error(err)
		}
		tk.lp.takeOffer(tk.wd, m)
	})
	closed(t, client)
	for {
		m, err := tk.giver.Recv()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil || m.Kind != wire.KindGrant {
			t.Fatalf("the giver hears: %s, %v", m.Kind, err)
		}
	}
}

// An offer that can't be read is refused by its place: the oldest one.
func TestTruncatedOffer(t *testing.T) {
	tk := newTaker(t)
	fd, err := tk.giver.Dup()
	if err != nil {
		t.Fatal(err)
	}
	_, err = unix.Write(fd, make([]byte, 64<<10))
	_ = unix.Close(fd)
	if err != nil {
		t.Fatal(err)
	}
	tk.do(func() { tk.lp.take(tk.wd) })
	if got := tk.answer(); got.Seq != 0 || !got.None {
		t.Errorf("answered %+v", got)
	}
	m, err := tk.giver.Recv()
	var g wire.Grant
	if err != nil || m.Kind != wire.KindGrant || m.Decode(&g) != nil || g.Room != 0 {
		t.Errorf("said %s %+v, %v", m.Kind, g, err)
	}
}

// A draining loop that has said that it is empty takes nothing more: the worker may
// end any moment.
func TestNothingIsTakenOnceEmpty(t *testing.T) {
	tk := newTaker(t)
	tk.do(func() {
		if err := tk.lp.ward(tk.wd.port); err != nil {
			t.Error(err)
		}
	})
	if m, err := tk.giver.Recv(); err != nil || m.Kind != wire.KindGrant {
		t.Fatalf("%s, %v", m.Kind, err)
	}
	tk.draining = true
	tk.wakeIfEmpty()
	if _, err := tk.giver.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("the giver hears: %v", err)
	}
	if n := tk.granted.Load(); n != 0 {
		t.Errorf("%d descriptors are granted still", n)
	}
}
