package serving

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"reuseportd/internal/control"
	"reuseportd/test/harness"
	"reuseportd/test/kit"
)

// stalled is a pipe that is full, as of a reader that has stopped.
type stalled struct {
	t    *testing.T
	r, w *os.File
}

func stall(t *testing.T) *stalled {
	t.Helper()
	r, w, err := os.Pipe()
	kit.Must(t, err)
	p := &stalled{t, r, w}
	t.Cleanup(func() { r.Close(); w.Close() })
	// Another open file, so that the server's is a blocking one as it would be from a shell.
	fill, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", w.Fd()), unix.O_WRONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	kit.Must(t, err)
	defer unix.Close(fill)
	for size := 4096; size > 0; {
		if _, err := unix.Write(fill, []byte(strings.Repeat("x", size-1)+"\n")); err != nil {
			size /= 2
		}
	}
	return p
}

// as has a server write its log there.
func (p *stalled) as(_ *harness.Server, cmd *exec.Cmd) { cmd.Stdout, cmd.Stderr = p.w, p.w }

// flow has the pipe read from here on; each line goes to the channel.
func (p *stalled) flow() <-chan string {
	lines := make(chan string, 1<<16)
	go func() {
		defer close(lines)
		in := bufio.NewReader(p.r)
		for {
			line, err := in.ReadString('\n')
			if err != nil {
				return
			}
			lines <- line
		}
	}()
	return lines
}

// logged is a configuration with an access log on standard output.
func logged(t *testing.T) harness.Config {
	c := harness.Default(t).AsRoot()
	c.Listeners[0].Service = `http: {access_log: {}, routes: [{path: /, respond: {body: "hello\n"}}]}`
	return c
}

// TestLogStalled has nobody read standard output and error from before the start: everything goes on.
func TestLogStalled(t *testing.T) {
	c := logged(t)
	s := harness.Prepare(t, c)
	s.Run(stall(t).as)
	s.WaitServing(1)
	conn := kit.Dial(t, c.Address("web"))
	if _, body := conn.Get(); body != "hello\n" {
		t.Errorf("answer %q", body)
	}
	conn.Close()
	s.Reload()
	s.Signal(syscall.SIGUSR1)
	killed := s.Workers()[0]
	kit.Must(t, syscall.Kill(killed, syscall.SIGKILL))
	s.WaitStatus("the worker to be replaced", func(st *control.Status) bool {
		g := harness.Serving(st)
		return g != nil && g.Workers[0].PID != killed && g.Workers[1].PID != killed
	})
	s.WaitStatus("the status to say that the log has stalled", func(st *control.Status) bool {
		return st.Log != nil && st.Log.Stalled != nil
	})
	s.Upgrade()
	s.Stop()
}

// TestLogStalledCounts: what finds no room is counted, and told once somebody reads again.
func TestLogStalledCounts(t *testing.T) {
	c := logged(t)
	s := harness.Prepare(t, c)
	p := stall(t)
	s.Run(p.as)
	s.WaitServing(1)
	var wrong strings.Builder // each refusal is a long line
	for i := range 500 {
		fmt.Fprintf(&wrong, "nonsense_%d: %s\n", i, strings.Repeat("x", 90))
	}
	s.WriteConfigText(wrong.String())
	var dropped uint64
	for n := 0; dropped == 0; n++ {
		if n == 10_000 {
			t.Fatal("nothing was dropped")
		}
		if r := s.Change("reload"); r.OK {
			t.Fatalf("nonsense serves: %+v", r)
		}
		dropped = s.Status().Log.Dropped
	}
	lines := p.flow()
	for line := range lines {
		if strings.Contains(line, "lines of this log were dropped") && strings.Contains(line, `"role":"master"`) {
			break
		}
	}
	go func() {
		for range lines { // the rest
		}
	}()
	s.WaitStatus("the log to flow", func(st *control.Status) bool { return st.Log.Stalled == nil })
	s.WriteConfig(c)
	s.Reload()
	s.Stop()
}

// TestAccessLogStalledTold: a worker says how many lines of an access log it has dropped, once they are read again.
func TestAccessLogStalledTold(t *testing.T) {
	c := logged(t).WithWorkers(1)
	s := harness.Prepare(t, c)
	p := stall(t)
	s.Run(p.as)
	s.WaitServing(1)
	conn := kit.Dial(t, c.Address("web"))
	const batch = 500
	for s.Status().Totals.LogDropped == 0 {
		go func() { _, _ = io.WriteString(conn, strings.Repeat(kit.Get, batch)) }() // an error shows below
		for range batch {
			if resp, _ := conn.Answer(); resp.StatusCode != 200 {
				t.Fatalf("answer %s", resp.Status)
			}
		}
	}
	conn.Close()
	lines := p.flow()
	for line := range lines {
		if strings.Contains(line, "lines of an access log were dropped") {
			break
		}
	}
	go func() {
		for range lines { // the rest
		}
	}()
	s.Stop()
}
