package control

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// desk is a handler whose clients wait until they are released.
type desk struct {
	entered, left chan string // commands that begin, and that end before they were released
	release       chan struct{}
}

func newDesk() *desk {
	return &desk{entered: make(chan string, 1000), left: make(chan string, 1000), release: make(chan struct{})}
}

func (d *desk) handle(ctx context.Context, req Request) Response {
	if req.Command == "status" {
		return Response{Status: &Status{Version: "1"}}
	}
	d.entered <- req.Command
	select {
	case <-d.release:
		return echoCause(ctx, req)
	case <-ctx.Done():
	case <-req.Gone:
	}
	d.left <- req.Command
	return Response{Error: "nobody waits"}
}

// soon bounds what has to happen.
const soon = 20 * time.Second

func await(t *testing.T, c <-chan string, want string) {
	t.Helper()
	select {
	case got := <-c:
		if got != want {
			t.Fatalf("%s, want %s", got, want)
		}
	case <-time.After(soon):
		t.Fatalf("waited in vain for %s", want)
	}
}

// A client that has gone frees its place at once, and whatever waits for it is told.
func TestHangUpIsNoticed(t *testing.T) {
	d := newDesk()
	dir, _ := start(t, d.handle)
	for _, leave := range []func(*net.UnixConn){
		func(c *net.UnixConn) { c.Close() },
		func(c *net.UnixConn) { c.CloseWrite(); c.Close() },
		func(c *net.UnixConn) { fmt.Fprint(c, `{"command":"reload"}`); c.Close() }, // half of a further request
	} {
		conn := rawDial(t, dir)
		fmt.Fprintln(conn, `{"command":"drained"}`)
		await(t, d.entered, "drained")
		leave(conn)
		await(t, d.left, "drained")
	}
	// A shell's `nc -N` has closed its writing side and waits.
	half := rawDial(t, dir)
	fmt.Fprintln(half, `{"command":"drained"}`)
	half.CloseWrite()
	await(t, d.entered, "drained")
	gone := rawDial(t, dir)
	fmt.Fprintln(gone, `{"command":"reload"}`)
	await(t, d.entered, "reload")
	gone.Close()
	await(t, d.left, "reload") // of the two only that one
	close(d.release)
	if got, err := io.ReadAll(half); err != nil || !strings.Contains(string(got), `"ok":true`) {
		t.Errorf("got %q, %v", got, err)
	}
}

// What a client sends while it waits is its next request, not lost by the watch.
func TestPipelinedRequests(t *testing.T) {
	d := newDesk()
	dir, _ := start(t, d.handle)
	conn := rawDial(t, dir)
	fmt.Fprintln(conn, `{"command":"reload"}`)
	await(t, d.entered, "reload")
	fmt.Fprintln(conn, `{"command":"upgrade"}`)
	close(d.release)
	await(t, d.entered, "upgrade")
	conn.CloseWrite()
	if got, err := io.ReadAll(conn); err != nil || strings.Count(string(got), `"ok":true`) != 2 {
		t.Errorf("got %q, %v", got, err)
	}
}

// However many wait for ever, `status` and `stop` have a place, and so has a newcomer: in
// that of the one that has waited longest.
func TestWaitingClientsKeepNobodyOut(t *testing.T) {
	d := newDesk()
	dir, _ := start(t, d.handle)
	stopper := rawDial(t, dir)
	fmt.Fprintln(stopper, `{"command":"stop"}`)
	await(t, d.entered, "stop")
	conns := make([]*net.UnixConn, maxClients+10)
	for i := range conns {
		conns[i] = rawDial(t, dir)
		fmt.Fprintln(conns[i], `{"command":"reload"}`)
		await(t, d.entered, "reload")
		if i >= maxClients-1 {
			await(t, d.left, "reload")
		}
	}
	if _, err := dial(t, dir).Do(t.Context(), Request{Command: "status"}); err != nil {
		t.Errorf("status: %v", err)
	}
	await(t, d.left, "reload")
	close(d.release)
	for i, conn := range append(conns, stopper) {
		conn.CloseWrite()
		want := `"ok":true`
		if i <= 11 { // ten for those that came later, one for the stop's, one for the status's
			want = "this one has had its place for longest; what it asked for goes on"
		}
		if got, err := io.ReadAll(conn); err != nil || !strings.Contains(string(got), want) {
			t.Errorf("client %d got %q, %v", i, got, err)
		}
	}
}

// So it is with clients that are connected and silent.
func TestSilentClientsKeepNobodyOut(t *testing.T) {
	set(t, &requestTimeout, time.Hour)
	dir, _ := start(t, newDesk().handle)
	var silent []*net.UnixConn
	for range 2 * maxClients {
		silent = append(silent, rawDial(t, dir))
	}
	if _, err := dial(t, dir).Do(t.Context(), Request{Command: "status"}); err != nil {
		t.Errorf("status: %v", err)
	}
	got, err := io.ReadAll(silent[0])
	if err != nil || !strings.Contains(string(got), "try again in a moment") {
		t.Errorf("the first one got %q, %v", got, err)
	}
}

// Clients that ask for much and read nothing (a stopped `status`) block nobody, and are
// let go of.
func TestStoppedReaders(t *testing.T) {
	set(t, &responseTimeout, time.Hour)
	big := strings.Repeat("x", 512<<10) // more than a socket holds
	var handled sync.WaitGroup
	handled.Add(maxClients + 1)
	dir, _ := start(t, func(_ context.Context, req Request) Response {
		if req.Cause == "stopped" {
			handled.Done()
			return Response{Status: &Status{Version: big}}
		}
		return Response{Status: new(Status)}
	})
	var conns []*net.UnixConn
	for range maxClients + 1 {
		conn := rawDial(t, dir)
		fmt.Fprintln(conn, `{"command":"status","cause":"stopped"}`)
		conns = append(conns, conn)
	}
	handled.Wait()
	if _, err := dial(t, dir).Do(t.Context(), Request{Command: "status"}); err != nil {
		t.Errorf("status: %v", err)
	}
	// Some have lost their places, in the middle of their answers: their ends are seen.
	var ends []unix.PollFd
	for _, conn := range conns {
		raw, err := conn.SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		_ = raw.Control(func(fd uintptr) { ends = append(ends, unix.PollFd{Fd: int32(fd)}) })
	}
	n, err := unix.Poll(ends, int((3 * soon).Milliseconds()))
	for err == unix.EINTR {
		n, err = unix.Poll(ends, int((3 * soon).Milliseconds()))
	}
	if n == 0 || err != nil {
		t.Errorf("all keep their places: %v", err)
	}
	for _, conn := range conns {
		_ = conn.Close()
	}
}
