package control

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"reuseportd/internal/rundir/rundirtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type handlerFunc func(ctx context.Context, req Request) Response

func (f handlerFunc) Handle(ctx context.Context, req Request) Response { return f(ctx, req) }

// start serves h in a fresh directory and returns it with a function that ends
// the server and waits for it; the test's end calls it too.
func start(t *testing.T, h handlerFunc) (dir string, stop func()) {
	t.Helper()
	dir = t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil { // whatever the umask
		t.Fatal(err)
	}
	l, err := Listen(rundirtest.Open(t, dir))
	if err != nil {
		t.Fatal(err)
	}
	return dir, serve(t, l, h)
}

func serve(t *testing.T, l *net.UnixListener, h handlerFunc) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- Serve(ctx, l, h) }()
	stopped := false
	stop = func() {
		cancel()
		if stopped {
			return
		}
		stopped = true
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
	}
	t.Cleanup(stop)
	return stop
}

func echoCause(_ context.Context, req Request) Response {
	return Response{Receipt: &Receipt{Action: req.Command, Cause: req.Cause, OK: true}}
}

func dial(t *testing.T, dir string) *Client {
	t.Helper()
	c, err := Dial(dir, false)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func rawDial(t *testing.T, dir string) *net.UnixConn {
	t.Helper()
	conn, err := net.Dial("unix", SocketPath(dir))
	for errors.Is(err, unix.EAGAIN) { // the queue is full for a moment
		runtime.Gosched()
		conn, err = net.Dial("unix", SocketPath(dir))
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	return conn.(*net.UnixConn)
}

func set(t *testing.T, p *time.Duration, d time.Duration) {
	old := *p
	*p = d
	t.Cleanup(func() { *p = old })
}

func TestRequestsOnOneConnection(t *testing.T) {
	dir, _ := start(t, echoCause)
	c := dial(t, dir)
	for _, cmd := range Commands {
		resp, err := c.Do(t.Context(), Request{Command: cmd, Cause: "test " + cmd})
		if err != nil {
			t.Fatal(err)
		}
		if r := resp.Receipt; r == nil || r.Action != cmd || r.Cause != "test "+cmd {
			t.Errorf("%s was answered by %+v", cmd, resp)
		}
	}
}

// A shell's `nc -N` closes its writing side after the request.
func TestHalfClosedClientGetsItsAnswer(t *testing.T) {
	release := make(chan struct{})
	dir, _ := start(t, func(ctx context.Context, req Request) Response {
		<-release
		return echoCause(ctx, req)
	})
	conn := rawDial(t, dir)
	fmt.Fprintln(conn, `{"command":"status","from":"the future"}`)
	conn.CloseWrite()
	close(release)
	got, err := io.ReadAll(conn)
	if err != nil || !strings.Contains(string(got), `"action":"status"`) {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestBigAnswer(t *testing.T) {
	big := strings.Repeat("x", 3<<20)
	dir, _ := start(t, func(context.Context, Request) Response {
		return Response{Status: &Status{Version: big}}
	})
	resp, err := dial(t, dir).Do(t.Context(), Request{Command: "status"})
	if err != nil || resp.Status.Version != big {
		t.Errorf("a status of %d bytes did not arrive: %v", len(big), err)
	}
}

func TestRefusedRequests(t *testing.T) {
	for _, test := range []struct{ name, send, want string }{
		{"not JSON", "hello\n", "not understood"},
		{"two values", "{\"command\":\"status\"}{}\n", "not understood"},
		{"no command", "{}\n", `unknown command \"\": there are status, reload, upgrade, stop`},
		{"unknown command", "{\"command\":\"sing\"}\n", `unknown command \"sing\"`},
		{"control character", "{\"command\":\"status\",\"cause\":\"\\u001b[2J\"}\n", "not plain text"},
		{"long cause", "{\"command\":\"status\",\"cause\":\"" + strings.Repeat("a", maxCause+1) + "\"}\n", "more than 256"},
		{"too long", strings.Repeat(" ", maxLine), "more than 65536 bytes"},
		{"incomplete", `{"command":`, "not complete after 500ms"},
		{"silent", "", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.name == "incomplete" || test.name == "silent" {
				set(t, &requestTimeout, 500*time.Millisecond) // of which a busy machine needs a part
			} else {
				set(t, &requestTimeout, time.Minute)
			}
			dir, _ := start(t, func(_ context.Context, req Request) Response {
				t.Errorf("%+v was handled", req)
				return Response{}
			})
			conn := rawDial(t, dir)
			if _, err := io.WriteString(conn, test.send); err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(conn)
			if err != nil || !strings.Contains(string(got), test.want) || (test.want == "") != (len(got) == 0) {
				t.Errorf("got %q, %v; want %q", got, err, test.want)
			}
		})
	}
}

func TestIncompleteRequestOfAClosedClient(t *testing.T) {
	dir, _ := start(t, echoCause)
	conn := rawDial(t, dir)
	io.WriteString(conn, `{"command":"status"}`)
	conn.CloseWrite()
	got, err := io.ReadAll(conn)
	if err != nil || !strings.Contains(string(got), "ended before its line did") {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestRefusalReachesTheClient(t *testing.T) {
	dir, _ := start(t, func(context.Context, Request) Response { return Response{Error: "not now"} })
	_, err := dial(t, dir).Do(t.Context(), Request{Command: "reload"})
	var refused *RefusedError
	if !errors.As(err, &refused) || refused.Text != "not now" {
		t.Errorf("got %v", err)
	}
}

func TestEndAnswersRequestsInProgress(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	dir, stop := start(t, func(ctx context.Context, req Request) Response {
		close(entered)
		<-release
		if ctx.Err() != nil {
			return Response{Error: "interrupted"}
		}
		return echoCause(ctx, req)
	})
	idle := rawDial(t, dir)
	c := dial(t, dir)
	answered := make(chan error, 1)
	go func() {
		_, err := c.Do(context.Background(), Request{Command: "upgrade"})
		answered <- err
	}()
	<-entered
	stopped := make(chan struct{})
	go func() { stop(); close(stopped) }()
	if got, err := io.ReadAll(idle); err != nil || !strings.Contains(string(got), ErrSuperseded) {
		t.Errorf("the idle client got %q, %v", got, err)
	}
	select {
	case <-stopped:
		t.Error("Serve did not wait for the answer")
	default:
	}
	close(release)
	if err := <-answered; err != nil {
		t.Error(err)
	}
	<-stopped
}

// A request that crosses the end of the service is answered, if only with the
// word to ask again.
func TestRequestThatCrossesTheEnd(t *testing.T) {
	for i := range 50 {
		dir, stop := start(t, echoCause)
		c := dial(t, dir)
		// Answered once, so that the next request isn't left in the queue.
		if _, err := c.Do(t.Context(), Request{Command: "status"}); err != nil {
			t.Fatal(err)
		}
		stopped := make(chan struct{})
		go func() { stop(); close(stopped) }()
		for range i * 100 { // another moment in each round
			runtime.Gosched()
		}
		_, err := c.Do(t.Context(), Request{Command: "reload"})
		var refused *RefusedError
		if err != nil && (!errors.As(err, &refused) || refused.Text != ErrSuperseded) {
			t.Errorf("round %d: %v", i, err)
		}
		c.Close()
		<-stopped
	}
}

func TestEndGivesUpOnAHangingRequest(t *testing.T) {
	set(t, &answerGrace, 10*time.Millisecond)
	entered := make(chan struct{})
	dir, stop := start(t, func(ctx context.Context, _ Request) Response {
		close(entered)
		<-ctx.Done()
		return Response{Error: "the master is leaving"}
	})
	conn := rawDial(t, dir)
	fmt.Fprintln(conn, `{"command":"stop"}`)
	<-entered
	stop()
	if got, _ := io.ReadAll(conn); !strings.Contains(string(got), "leaving") {
		t.Errorf("got %q", got)
	}
}

// Running out of descriptors pauses the server and doesn't end it.
func TestTemporaryErrors(t *testing.T) {
	for _, e := range []syscall.Errno{unix.EMFILE, unix.ENFILE, unix.ENOMEM, unix.ECONNABORTED} {
		if !temporary(&net.OpError{Op: "accept", Err: os.NewSyscallError("accept4", e)}) {
			t.Errorf("%v would end the server", e)
		}
	}
	if temporary(net.ErrClosed) {
		t.Error("a closed listener is temporary")
	}
}
