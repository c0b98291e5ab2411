package control

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type handlerFunc func(ctx context.Context, req Request) Response

func (f handlerFunc) Handle(ctx context.Context, req Request) Response { return f(ctx, req) }

// start serves h in a fresh directory and returns it with a function that ends
// the server and waits for it; the test's end calls it too.
func start(t *testing.T, h handlerFunc) (dir string, stop func()) {
	t.Helper()
	dir = t.TempDir()
	l, err := Listen(dir)
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
	c, err := Dial(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func rawDial(t *testing.T, dir string) *net.UnixConn {
	t.Helper()
	conn, err := net.Dial("unix", SocketPath(dir))
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
	set(t, &requestTimeout, 50*time.Millisecond)
	dir, _ := start(t, func(_ context.Context, req Request) Response {
		t.Errorf("%+v was handled", req)
		return Response{}
	})
	for _, test := range []struct{ name, send, want string }{
		{"not JSON", "hello\n", "not understood"},
		{"two values", "{\"command\":\"status\"}{}\n", "not understood"},
		{"no command", "{}\n", `unknown command \"\": there are status, reload, upgrade, stop`},
		{"unknown command", "{\"command\":\"sing\"}\n", `unknown command \"sing\"`},
		{"control character", "{\"command\":\"status\",\"cause\":\"\\u001b[2J\"}\n", "not plain text"},
		{"long cause", "{\"command\":\"status\",\"cause\":\"" + strings.Repeat("a", maxCause+1) + "\"}\n", "more than 256"},
		{"too long", strings.Repeat(" ", maxLine), "more than 65536 bytes"},
		{"incomplete", `{"command":`, "not complete after 50ms"},
		{"silent", "", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
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

func TestTooManyClients(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	dir, _ := start(t, func(ctx context.Context, req Request) Response {
		entered <- struct{}{}
		<-release
		return echoCause(ctx, req)
	})
	conns := make([]*net.UnixConn, maxClients)
	for i := range conns {
		conns[i] = rawDial(t, dir)
		fmt.Fprintln(conns[i], `{"command":"reload"}`)
		<-entered
	}
	_, err := dial(t, dir).Do(t.Context(), Request{Command: "status"})
	if err == nil || !strings.Contains(err.Error(), "already answers 64 clients") {
		t.Errorf("one client too many got %v", err)
	}
	close(release)
	for _, conn := range conns {
		if line, err := bufio.NewReader(conn).ReadString('\n'); err != nil || !strings.Contains(line, `"ok":true`) {
			t.Errorf("got %q, %v", line, err)
		}
		conn.Close()
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

func TestSocketIsPrivateAndStays(t *testing.T) {
	defer unix.Umask(unix.Umask(0))
	dir, stop := start(t, echoCause)
	st, err := os.Stat(SocketPath(dir))
	if err != nil {
		t.Fatal(err)
	}
	if st.Mode().Perm() != 0o600 {
		t.Errorf("the socket's mode is %v", st.Mode())
	}
	stop()
	if _, err := os.Stat(SocketPath(dir)); err != nil {
		t.Errorf("Serve removed the socket: %v", err)
	}
}

func TestNextMasterServesTheSameSocket(t *testing.T) {
	dir := t.TempDir()
	l, err := Listen(dir)
	if err != nil {
		t.Fatal(err)
	}
	fd, err := Dup(l)
	if err != nil {
		t.Fatal(err)
	}
	if flags, _ := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); flags&unix.FD_CLOEXEC == 0 {
		t.Error("the duplicate would leak into every child")
	}
	if flags, _ := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0); flags&unix.O_NONBLOCK == 0 {
		t.Error("the listener was made blocking")
	}
	stop := serve(t, l, echoCause)
	stop()
	// Between the two masters a client waits in the queue.
	c := dial(t, dir)
	next, err := FromFD(fd)
	if err != nil {
		t.Fatal(err)
	}
	serve(t, next, echoCause)
	if _, err := c.Do(t.Context(), Request{Command: "status"}); err != nil {
		t.Error(err)
	}
}

func TestListenReplacesADeadMastersSocket(t *testing.T) {
	dir, stop := start(t, echoCause)
	stop()
	if _, err := Dial(dir); !errors.Is(err, ErrNoMaster) {
		t.Errorf("a dead master's socket gave %v", err)
	}
	l, err := Listen(dir)
	if err != nil {
		t.Fatal(err)
	}
	serve(t, l, echoCause)
	if _, err := dial(t, dir).Do(t.Context(), Request{Command: "status"}); err != nil {
		t.Error(err)
	}
}

func TestListenErrors(t *testing.T) {
	busy := t.TempDir()
	if err := os.WriteFile(SocketPath(busy), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	long := filepath.Join(t.TempDir(), strings.Repeat("d", 100))
	if err := os.Mkdir(long, 0o700); err != nil {
		t.Fatal(err)
	}
	for dir, want := range map[string]string{
		busy:                               "is in the way and is no socket",
		long:                               "name a shorter runtime directory",
		filepath.Join(t.TempDir(), "nada"): "no such file or directory",
	} {
		if _, err := Listen(dir); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Listen(%s): %v, want %q", dir, err, want)
		}
	}
}

func TestFromFDRefusesOtherDescriptors(t *testing.T) {
	tcp, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	file, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range []int{tcp, file, -1} {
		if l, err := FromFD(fd); err == nil {
			l.Close()
			t.Errorf("descriptor %d was taken", fd)
		}
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil {
			t.Errorf("descriptor %d is still open", fd)
		}
	}
}

func TestAllow(t *testing.T) {
	for _, test := range []struct {
		uid, own uint32
		want     string
	}{
		{0, 0, ""},
		{0, 1000, ""},
		{1000, 1000, ""},
		{1000, 0, "answers only root"},
		{1001, 1000, "answers only root and uid 1000"},
	} {
		err := allow(test.uid, test.own)
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("allow(%d, %d) = %v, want %q", test.uid, test.own, err, test.want)
		}
	}
}

// asOther runs f on a thread that has the user id of nobody. The thread ends
// with it.
func asOther(t *testing.T, f func()) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can become somebody else")
	}
	done := make(chan error)
	go func() {
		// No UnlockOSThread: the runtime throws the thread away.
		lockThread()
		_, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, 65534, 65534, 65534)
		if errno != 0 {
			done <- errno
			return
		}
		f()
		done <- nil
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func TestOtherUsersAreRefused(t *testing.T) {
	dir, _ := start(t, func(context.Context, Request) Response {
		t.Error("a request of another user was handled")
		return Response{}
	})
	// The socket's mode keeps them out …
	chmodAll(t, dir, 0o755)
	asOther(t, func() {
		_, err := Dial(dir)
		if err == nil || !strings.Contains(err.Error(), "permission denied; only root may ask this master") {
			t.Errorf("got %v", err)
		}
	})
	// … and where somebody opened it, the peer's credentials do.
	if err := os.Chmod(SocketPath(dir), 0o666); err != nil {
		t.Fatal(err)
	}
	asOther(t, func() {
		c, err := Dial(dir)
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		_, err = c.Do(context.Background(), Request{Command: "status"})
		var refused *RefusedError
		if !errors.As(err, &refused) || !strings.Contains(refused.Text, "uid 65534 asks") {
			t.Errorf("got %v", err)
		}
	})
}

// chmodAll makes dir and what is above it reachable, up to the temporary
// directory.
func chmodAll(t *testing.T, dir string, mode os.FileMode) {
	t.Helper()
	for ; dir != filepath.Clean(os.TempDir()) && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, mode); err != nil {
			t.Fatal(err)
		}
	}
}

func TestDialWithoutMaster(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "none")
	_, err := Dial(dir)
	if !errors.Is(err, ErrNoMaster) || !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), "--runtime-dir") {
		t.Errorf("got %v", err)
	}
}

func TestMasterEndsWithoutAnswer(t *testing.T) {
	for _, cmd := range Commands {
		dir := t.TempDir()
		l, err := Listen(dir)
		if err != nil {
			t.Fatal(err)
		}
		died := make(chan struct{})
		go func() { // a master that dies between request and answer
			defer close(died)
			conn, err := l.Accept()
			if err != nil {
				t.Error(err)
				return
			}
			bufio.NewReader(conn).ReadString('\n')
			conn.Close()
		}()
		_, err = dial(t, dir).Do(t.Context(), Request{Command: cmd})
		<-died
		l.Close()
		if err == nil || !strings.Contains(err.Error(), cmd+": the master ended without an answer") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", cmd, err)
		}
		change := cmd == "reload" || cmd == "upgrade"
		if errors.Is(err, ErrUnknownOutcome) != change || change && !strings.Contains(err.Error(), "see `reuseportd status`") {
			t.Errorf("%s: %v", cmd, err)
		}
	}
}

func TestClientGivesUp(t *testing.T) {
	release := make(chan struct{})
	dir, _ := start(t, func(ctx context.Context, req Request) Response {
		<-release
		return echoCause(ctx, req)
	})
	defer close(release)
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(10*time.Millisecond, cancel)
	_, err := dial(t, dir).Do(ctx, Request{Command: "reload"})
	if !errors.Is(err, context.Canceled) || !errors.Is(err, ErrUnknownOutcome) {
		t.Errorf("got %v", err)
	}
}

func TestGarbledAnswer(t *testing.T) {
	dir := t.TempDir()
	l, err := Listen(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		conn, err := l.Accept()
		if err != nil {
			return
		}
		bufio.NewReader(conn).ReadString('\n')
		io.WriteString(conn, "hello\n")
		conn.Close()
	}()
	_, err = dial(t, dir).Do(t.Context(), Request{Command: "status"})
	if err == nil || !strings.Contains(err.Error(), "not understood") {
		t.Errorf("got %v", err)
	}
	<-done
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
