// Package test shows the server from outside: real processes, real sockets,
// and clients that count what they lose.
//
// It owns the end-to-end tests and nothing that they need: clients are in
// meter, processes in harness. It must never wait for a time where it could
// wait for an event.
package test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"reuseportd/internal/control"
	"reuseportd/test/harness"
	"reuseportd/test/meter"
)

func TestMain(m *testing.M) {
	if os.Getenv(listenEnv) != "" {
		listener()
	}
	harness.Main(m)
}

// clients is a meter for the listeners web and echo of c, as far as it has
// them, of a size for a server under the race detector on two cores.
func clients(c harness.Config) meter.Config {
	var web, echo string
	for _, l := range c.Listeners {
		switch l.Name {
		case "web":
			web = l.Address
		case "echo":
			echo = l.Address
		}
	}
	m := meter.Defaults(web, echo)
	m.Paths = []string{"/", "/two"}
	m.FreshRate = 200
	m.BurstPause = 600 * time.Millisecond
	m.Stream = min(m.Stream, 6)
	m.Timeout = 10 * time.Second // the machine may be busy; a loss is no matter of speed
	return m
}

// under does what do does while the clients of cfg measure.
func under(t *testing.T, cfg meter.Config, do func(*meter.Meter)) *meter.Result {
	t.Helper()
	m, err := meter.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	done := false
	defer func() {
		if !done { // do has called FailNow
			t.Logf("\n%v", m.Stop())
		}
	}()
	do(m)
	for end := time.Now().Add(harness.Within); len(m.Waiting()) > 0 && time.Now().Before(end); { // what was done may be quick
		time.Sleep(10 * time.Millisecond)
	}
	r := m.Stop()
	done = true
	t.Logf("\n%v", r)
	return r
}

// losingNothing is under, and nothing may be lost.
func losingNothing(t *testing.T, cfg meter.Config, do func(*meter.Meter)) *meter.Result {
	t.Helper()
	r := under(t, cfg, do)
	if r.Lost() > 0 {
		t.Errorf("lost %d", r.Lost())
	}
	for _, k := range r.Kinds {
		if k.Connections == 0 {
			t.Errorf("%s clients did nothing", k.Kind)
		}
	}
	return r
}

// client is one plain connection.
type client struct {
	net.Conn
	t *testing.T
	r *bufio.Reader
}

func dial(t *testing.T, address string) *client {
	t.Helper()
	network := "tcp"
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		network, address = "unix", path
	}
	c, err := net.DialTimeout(network, address, harness.Within)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return &client{c, t, bufio.NewReader(c)}
}

// soon bounds the next step.
func (c *client) soon() {
	c.t.Helper()
	if err := c.SetDeadline(time.Now().Add(2 * harness.Within)); err != nil {
		c.t.Fatal(err)
	}
}

func (c *client) send(text string) {
	c.t.Helper()
	c.soon()
	if _, err := io.WriteString(c, text); err != nil {
		c.t.Fatal(err)
	}
}

// answer reads a response and its body.
func (c *client) answer() (*http.Response, string) {
	c.t.Helper()
	c.soon()
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		c.t.Fatalf("read an answer: %v", err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatalf("read an answer's body: %v", err)
	}
	resp.Body.Close()
	return resp, string(body)
}

const get = "GET / HTTP/1.1\r\nHost: test\r\n\r\n"

// get asks for / and wants a 200.
func (c *client) get() (*http.Response, string) {
	c.t.Helper()
	c.send(get)
	resp, body := c.answer()
	if resp.StatusCode != http.StatusOK {
		c.t.Fatalf("status %s: %s", resp.Status, body)
	}
	return resp, body
}

// echo sends text and wants it back.
func (c *client) echo(text string) {
	c.t.Helper()
	c.send(text)
	c.wantBack(text)
}

func (c *client) wantBack(text string) {
	c.t.Helper()
	c.soon()
	got := make([]byte, len(text))
	if _, err := io.ReadFull(c.r, got); err != nil {
		c.t.Fatalf("read an echo: %v", err)
	}
	if !bytes.Equal(got, []byte(text)) {
		c.t.Fatalf("echo %.40q, want %.40q", got, text)
	}
}

// closeWrite half-closes.
func (c *client) closeWrite() {
	c.t.Helper()
	if err := c.Conn.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		c.t.Fatal(err)
	}
}

// wantEOF wants the server's end of the connection, and nothing before it.
func (c *client) wantEOF() {
	c.t.Helper()
	c.soon()
	if b, err := c.r.ReadByte(); !errors.Is(err, io.EOF) {
		c.t.Fatalf("got byte %#x and error %v, want the end of the file", b, err)
	}
}

// body is the answer to a request on a connection of its own, or the error.
func body(address string) string {
	ctx, cancel := context.WithTimeout(context.Background(), harness.Within)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/", nil)
	if err != nil {
		return err.Error()
	}
	req.Close = true
	tr := &http.Transport{DisableKeepAlives: true}
	defer tr.CloseIdleConnections()
	resp, err := tr.RoundTrip(req)
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// refused reports whether nobody listens at address.
func refused(address string) bool {
	c, err := net.DialTimeout("tcp", address, time.Second)
	if err == nil {
		c.Close()
	}
	return err != nil
}

// workers are the serving workers by PID.
func workers(st *control.Status) map[int]control.Worker {
	all := make(map[int]control.Worker)
	if g := harness.Serving(st); g != nil {
		for _, w := range g.Workers {
			all[w.PID] = w
		}
	}
	return all
}

// unchanged wants the server to be as st says: nothing happened.
func unchanged(t *testing.T, s *harness.Server, st *control.Status) {
	t.Helper()
	now := s.WaitServing(st.Generation)
	if now.Generation != st.Generation || now.PID != st.PID || now.Version != st.Version ||
		now.Config.SHA256 != st.Config.SHA256 {
		t.Errorf("generation %d of master %d, version %s, configuration %.8s; want %d, %d, %s, %.8s",
			now.Generation, now.PID, now.Version, now.Config.SHA256,
			st.Generation, st.PID, st.Version, st.Config.SHA256)
	}
	if a, b := fmt.Sprint(pids(now)), fmt.Sprint(pids(st)); a != b {
		t.Errorf("workers %s, want still %s", a, b)
	}
}

func pids(st *control.Status) []int {
	var all []int
	if g := harness.Serving(st); g != nil {
		for _, w := range g.Workers {
			all = append(all, w.PID)
		}
	}
	return all
}

// someTime lets clients meet a state that is being held: nothing happens that
// could be waited for, so it is a time after all.
func someTime() { time.Sleep(700 * time.Millisecond) }

func sorted(pids []int) []int {
	slices.Sort(pids)
	return pids
}
