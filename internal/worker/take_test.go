package worker

import (
	"errors"
	"io"
	"os"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"reuseportd/internal/eventloop"
	"reuseportd/internal/handover"
	"reuseportd/internal/service/echo"
	"reuseportd/internal/wire"
)

const testKey = "127.0.0.1:7"

// taker is a worker with one loop that echoes, and a channel to a giver.
type taker struct {
	*worker
	t     *testing.T
	lp    *loop
	ch    *wire.Conn // the taker's end
	giver *wire.Conn
}

func newTaker(t *testing.T) *taker {
	t.Helper()
	el, err := eventloop.New(eventloop.Options{})
	if err != nil {
		t.Fatal(err)
	}
	lp := &loop{Loop: el, services: map[string]*eventloop.Service{testKey: el.NewService(echo.New(el, 0), 0)}}
	giver, far, err := wire.Pair()
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.FcntlInt(far.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	far.Close()
	ch, err := wire.FromFD(fd)
	if err != nil {
		t.Fatal(err)
	}
	tk := &taker{
		worker: &worker{log: zerolog.Nop(), mail: newMailbox(), loops: []*loop{lp}, orphan: true},
		t:      t, lp: lp, ch: ch, giver: giver,
	}
	done := make(chan error, 1)
	go func() { done <- el.Run() }()
	t.Cleanup(func() {
		el.Post(func() { el.Cut(); el.Stop() })
		if err := <-done; err != nil {
			t.Error(err)
		}
		_ = ch.Close()
		_ = giver.Close()
	})
	return tk
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

// takeOn has the loop take items on and waits for it.
func (tk *taker) takeOn(items ...handover.Item) {
	done := make(chan struct{})
	tk.lp.Post(func() {
		tk.worker.takeOn(tk.lp, tk.ch, 7, items)
		close(done)
	})
	<-done
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

// The giver is told what was taken and what was not, also when nothing has been
// said for so long that the deadline of the last word has passed.
func TestTakeOn(t *testing.T) {
	tk := newTaker(t)
	_ = tk.ch.SetWriteDeadline(time.Unix(1, 0))
	a, clientA := tk.item(testKey)
	b, clientB := tk.item("a listener that is gone")
	c, clientC := tk.item(testKey)
	tk.takeOn(a, b, c)
	if got := tk.answer(); got.Seq != 7 || got.None || len(got.Refused) != 1 || got.Refused[0] != 1 || got.Reason == "" {
		t.Errorf("answered %+v", got)
	}
	echoed(t, clientA)
	closed(t, clientB)
	echoed(t, clientC)
}

// A giver that is dead has given.
func TestTakeOnFromTheDead(t *testing.T) {
	tk := newTaker(t)
	_ = tk.giver.Close()
	a, client := tk.item(testKey)
	tk.takeOn(a)
	echoed(t, client)
}

// What a giver that lives can't be told of is the giver's still, and by the end of
// the channel it knows.
func TestTakeOnUntold(t *testing.T) {
	tk := newTaker(t)
	_ = tk.ch.Close()
	a, client := tk.item(testKey)
	tk.takeOn(a)
	closed(t, client)
	if _, err := tk.giver.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("the giver hears: %v", err)
	}
}

// An offer that can't be read is refused by its place: the oldest one.
func TestTruncatedOffer(t *testing.T) {
	tk := newTaker(t)
	fd, err := tk.giver.Dup()
	if err != nil {
		t.Fatal(err)
	}
	_, err = unix.Write(fd, make([]byte, wire.MaxBody+1000))
	_ = unix.Close(fd)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		tk.takeAll(tk.ch)
		close(done)
	}()
	if got := tk.answer(); got.Seq != 0 || !got.None {
		t.Errorf("answered %+v", got)
	}
	m, err := tk.giver.Recv()
	var g wire.Grant
	if err != nil || m.Kind != wire.KindGrant || m.Decode(&g) != nil || g.Room != 0 {
		t.Errorf("said %s %+v, %v", m.Kind, g, err)
	}
	_ = tk.giver.Close()
	<-done
}

// A draining worker that has asked its loops whether they are empty, and is given
// connections before it hears their answers, does not end with them.
func TestTakeWhileAsking(t *testing.T) {
	tk := newTaker(t)
	tk.draining = true
	tk.wakeIfEmpty()
	<-tk.mail.ready // the loop was empty
	a, client := tk.item(testKey)
	b, fds := handover.Encode([]handover.Item{a})
	memfd, err := wire.Memfd("test", b)
	if err != nil {
		t.Fatal(err)
	}
	err = tk.giver.Send(wire.KindOffer, wire.Offer{Seq: 3, Format: handover.Format}, append([]int{memfd}, fds...)...)
	_, _ = unix.Close(memfd), unix.Close(a.FD)
	if err != nil {
		t.Fatal(err)
	}
	m, err := tk.ch.Recv()
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	tk.take(tk.ch, wire.Offer{Seq: 3, Format: handover.Format}, m, func() { close(done) })
	<-done
	tk.mail.take()[0]()
	if tk.exit {
		t.Error("the worker ends with a connection that it has just taken")
	}
	if got := tk.answer(); got.Seq != 3 || len(got.Refused) > 0 {
		t.Errorf("answered %+v", got)
	}
	echoed(t, client)
}
