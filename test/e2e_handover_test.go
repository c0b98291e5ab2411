package test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"mime"
	"mime/multipart"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"reuseportd/internal/control"
	"reuseportd/test/harness"
	"reuseportd/test/meter"
)

// figures is less, or with REUSEPORTD_FULL=1 in the environment full: what the
// server is to hold, and takes minutes to see.
func figures(less, full int) int {
	if os.Getenv("REUSEPORTD_FULL") != "" {
		return full
	}
	return less
}

var bothChanges = []string{"reload", "upgrade"}

// replace is harness.Server.ChangeOver.
func replace(t *testing.T, s *harness.Server, change string) *control.Receipt {
	t.Helper()
	return s.ChangeOver(change)
}

// site is a listener that answers as harness.Answer does, and serves the files of
// root below /files/.
func site(name, address, body, root string) harness.Listener {
	return harness.Listener{Name: name, Address: address, Service: fmt.Sprintf(
		`http: {routes: [{respond: {body: "%s\n"}}, {path: /two, respond: {body: "%[1]s 2\n"}}, {path: /files/, files: {root: %q}}]}`, body, root)}
}

// randomFile makes a file of so many bytes, and returns its directory.
func randomFile(t *testing.T, name string, size int) (dir string) {
	t.Helper()
	dir = harness.Dir(t)
	must(t, os.WriteFile(filepath.Join(dir, name), randomBytes(1, size), 0o644))
	return dir
}

func randomBytes(seed byte, size int) []byte {
	b := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(b) // never fails
	return b
}

// dialNarrow connects with a receive buffer so small that the server must wait
// with what it has to say.
func dialNarrow(t *testing.T, address string) *client {
	t.Helper()
	d := net.Dialer{Timeout: harness.Within, Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		if ctl := c.Control(func(fd uintptr) {
			err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 16<<10)
		}); ctl != nil {
			return ctl
		}
		return err
	}}
	network, addr := "tcp", address
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		network, addr = "unix", path
	}
	c, err := d.Dial(network, addr)
	must(t, err)
	t.Cleanup(func() { c.Close() })
	return &client{c, t, bufio.NewReader(c)}
}

// wantKept wants an answer on a connection that stays.
func (c *client) wantKept(body string) {
	c.t.Helper()
	resp, got := c.answer()
	if resp.StatusCode != 200 || got != body {
		c.t.Fatalf("answer %d %.60q of %d bytes, want %.60q of %d", resp.StatusCode, got, len(got), body, len(body))
	}
	if resp.Close {
		c.t.Fatal("the answer says Connection: close")
	}
}

// waitBlocked waits until the server moves no more bytes, because its clients
// don't read. That it has paused can only be guessed, from its having done so
// for a while; a wrong guess makes the test easier, not false.
func waitBlocked(s *harness.Server) {
	var before uint64
	same := 0
	s.WaitStatus("the server to wait for its clients", func(st *control.Status) bool {
		now := st.Totals.BytesIn + st.Totals.BytesOut
		if now != before || now == 0 {
			before, same = now, 0
		}
		same++
		return same == 5
	})
}

// Connections on which nothing happens stay the clients' for ever, in as many
// processes as there happen to be.
func TestIdleConnectionsOutliveGenerations(t *testing.T) {
	n := uint64(figures(1000, 5000))
	c := harness.Default(t)
	s := harness.Start(t, c)
	mc := meter.Config{HTTP: c.Address("web"), Strict: true, Idle: int(n), Timeout: 10 * time.Second}
	r := losingNothing(t, mc, func(m *meter.Meter) {
		for i := range 6 {
			change, workers := bothChanges[i%2], 1+(i+2)%3
			m.Mark("%s %d, to %d workers", change, i/2+1, workers)
			s.WriteConfig(c.WithWorkers(workers))
			if r := replace(t, s, change); r.HandedOver != n || r.Finished > 0 {
				t.Errorf("receipt %+v, want %d handed over and none finished", r, n)
			}
		}
	})
	if k := r.Kind(meter.Idle); k.Connections != n || k.Requests != 2*n || k.Ended > 0 {
		t.Errorf("%d requests on %d connections, %d ended; want two on each of %d", k.Requests, k.Connections, k.Ended, n)
	}
}

// Under all kinds of clients, some of which never pause, no connection is ended,
// not even politely. Changes don't wait for the one before to have drained.
func TestKeptClientsNeverClosed(t *testing.T) {
	c := harness.Default(t)
	s := harness.Start(t, c)
	mc := clients(c)
	mc.Strict = true
	mc.KeptPause = 1
	r := losingNothing(t, mc, func(m *meter.Meter) {
		for i := range figures(5, 20) {
			for _, change := range bothChanges {
				m.Mark("%s %d", change, i+1)
				if r := s.Change(change); !r.OK {
					t.Fatalf("%s %d: %+v", change, i+1, r)
				}
			}
		}
		m.Mark("all changes made")
		s.WaitServing(uint64(1 + 2*figures(5, 20)))
	})
	if k := r.Kind(meter.Kept); k.Connections != uint64(mc.Kept) {
		t.Errorf("%d connections of %d kept clients", k.Connections, mc.Kept)
	}
}

// Bytes under way in either direction, and a file half sent, arrive whole and in
// order.
func TestStreamsAndDownload(t *testing.T) {
	dir := randomFile(t, "big.bin", figures(20, 200)<<20)
	c := harness.Default(t)
	c = c.WithListeners(site("web", c.Address("web"), "hello", dir), c.Listeners[1])
	s := harness.Start(t, c)
	mc := meter.Config{
		HTTP: c.Address("web"), Echo: c.Address("echo"), Strict: true, Timeout: 10 * time.Second,
		Stream: figures(16, 64), StreamLife: 24 * time.Hour,
		Download: 1, DownloadRate: 4 << 20,
		DownloadPath: "/files/big.bin", DownloadFile: filepath.Join(dir, "big.bin"),
	}
	r := losingNothing(t, mc, func(m *meter.Meter) {
		for i := range figures(5, 20) {
			m.Mark("upgrade %d", i+1)
			replace(t, s, "upgrade")
		}
	})
	for kind, n := range map[meter.Kind]int{meter.Stream: mc.Stream, meter.Download: mc.Download} {
		if k := r.Kind(kind); k.Connections != uint64(n) || k.Requests != uint64(n) {
			t.Errorf("%s: %d whole ones on %d connections, want %d on as many", kind, k.Requests, k.Connections, n)
		}
	}
}

// A client of the first generation is served through fifty masters, and nothing
// of those before the last is left.
func TestStreamOutlivesFiftyUpgrades(t *testing.T) {
	n := figures(10, 50)
	c := harness.Default(t).With("drain_timeout: 5m")
	s := harness.Start(t, c)
	stream := dial(t, c.Address("echo"))
	text := string(randomBytes(2, 100<<10))
	for range n {
		stream.send(text) // and the echo is under way, or not yet read
		s.Upgrade()
		stream.wantBack(text)
	}
	st := s.WaitServing(uint64(n + 1))
	if st.Generation != uint64(n+1) {
		t.Errorf("generation %d after %d upgrades", st.Generation, n)
	}
	one := sorted(append(pids(st), st.PID))
	s.Wait("one generation of processes to be left", func() bool { return fmt.Sprint(s.Processes()) == fmt.Sprint(one) })
	stream.echo("the last generation")
	stream.closeWrite()
	stream.wantEOF()
}

// partial is a conversation with a change in the middle.
type partial struct {
	name   string
	before string
	heard  []int // statuses of the answers that come before the change
	after  string
	want   []string // bodies of the answers that come after it
	ends   bool     // as the client asked
}

func partials() []partial {
	const (
		two     = "GET /two HTTP/1.1\r\nHost: test\r\n\r\n"
		post    = "POST /two HTTP/1.1\r\nHost: test\r\n"
		chunked = post + "Transfer-Encoding: chunked\r\n\r\n"
		trailer = "0\r\nTrailer-Field: value\r\n\r\n"
	)
	chunks := fmt.Sprintf("%x;note=1\r\n%s\r\n", len(two), two) // a body that reads as a request
	long := strings.Repeat("x", 20<<10)
	body := strings.Repeat(two, 6000)
	hello, second := []string{"hello\n"}, []string{"hello 2\n"}
	length := fmt.Sprintf(post+"Content-Length: %d\r\n\r\n", len(body))
	expect := fmt.Sprintf(post+"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n", len(body))
	all := []partial{
		{name: "nothing sent", after: get, want: hello},
		{name: "idle", before: get, heard: []int{200}, after: two, want: second},
		{name: "an empty line", before: "\r\n", after: get, want: hello},
		{name: "a long head", before: "GET /two HTTP/1.1\r\nHost: test\r\nX-Long: " + long, after: long[:5000] + "\r\n\r\n", want: second},
		{name: "whole requests and half of one", before: get + two + two[:20], heard: []int{200, 200}, after: two[20:] + get, want: []string{"hello 2\n", "hello\n"}},
		{name: "before a body", before: length, after: body, want: second},
		{name: "inside a body", before: length + body[:100_001], after: body[100_001:], want: second},
		{name: "before a body's last byte", before: length + body[:len(body)-1], after: body[len(body)-1:] + get, want: []string{"hello 2\n", "hello\n"}},
		{name: "expectation met", before: expect, heard: []int{100}, after: body + get, want: []string{"hello 2\n", "hello\n"}},
		{name: "expectation met, inside the body", before: expect + body[:50_000], after: body[50_000:], want: second},
		{name: "HTTP/1.0", before: "POST /two HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 9\r\n\r\nfour", after: "+five", want: second},
		{name: "Connection: close", before: post + "Connection: close\r\nContent-Length: 9\r\n\r\nfour", after: "+five", want: second, ends: true},
	}
	for _, at := range []int{1, 7, 17, 18, 19, 25, len(two) - 3, len(two) - 1} {
		all = append(all, partial{name: fmt.Sprintf("head split at %d", at), before: two[:at], after: two[at:], want: second})
	}
	for at := range chunks + trailer {
		if at < 13 || at > len(chunks)-4 {
			all = append(all, partial{
				name:   fmt.Sprintf("chunks split at %d", at),
				before: chunked + chunks + (chunks + trailer)[:at], after: (chunks + trailer)[at:] + get,
				want: []string{"hello 2\n", "hello\n"},
			})
		}
	}
	return all
}

// Whatever part of a request has arrived, the next generation has it and answers
// when the rest comes.
func TestPartialRequestsTravel(t *testing.T) {
	for _, change := range bothChanges {
		t.Run(change, func(t *testing.T) {
			c := harness.Default(t)
			c.Threads = 2
			s := harness.Prepare(t, c)
			local := "unix:" + filepath.Join(s.Dir, "web.sock")
			s.WriteConfig(c.WithListeners(c.Listeners[0], harness.Web("local", local)))
			s.Run()
			s.WaitServing(1)
			cases := partials()
			conns := make(map[string][]*client)
			var count, sent uint64
			for _, p := range cases {
				for _, address := range []string{c.Address("web"), local} {
					conn := dial(t, address)
					conn.send(p.before)
					for _, want := range p.heard {
						if got, _ := conn.get2(); got != want {
							t.Fatalf("%s: status %d, want %d", p.name, got, want)
						}
					}
					conns[p.name] = append(conns[p.name], conn)
					count++
					sent += uint64(len(p.before))
				}
			}
			s.WaitStatus("all that was sent to be read", func(st *control.Status) bool {
				return st.Totals.Accepted == count && st.Totals.BytesIn == sent
			})
			if r := replace(t, s, change); r.HandedOver != count || r.Finished > 0 {
				t.Errorf("receipt %+v, want %d handed over", r, count)
			}
			for _, p := range cases {
				t.Run(p.name, func(t *testing.T) {
					for _, conn := range conns[p.name] {
						conn.t = t
						conn.finish(p)
					}
				})
			}
		})
	}
}

// finish is the part of p behind the change, and one request more.
func (c *client) finish(p partial) {
	c.t.Helper()
	c.send(p.after)
	if strings.Contains(p.before, "Expect:") && p.heard == nil {
		// Some of the body was there, but the server may have wanted the rest.
		c.soon()
		if b, err := c.r.Peek(12); err == nil && string(b) == "HTTP/1.1 100" {
			c.get2()
		}
	}
	for _, want := range p.want {
		if p.ends {
			if resp, got := c.answer(); got != want || !resp.Close {
				c.t.Errorf("answer %q, Connection: close %t; want %q, and the end", got, resp.Close, want)
			}
			c.wantEOF()
			return
		}
		c.wantKept(want)
	}
	c.send(get)
	c.wantKept("hello\n")
}

// Answers that nobody has read yet, and requests that wait behind them, are all
// answered in their order.
func TestUnreadAnswersTravel(t *testing.T) {
	const requests = 600 // more than a send buffer holds the answers to, 4 MiB
	text := strings.Repeat("0123456789abcdef", 1<<10)
	dir := randomFile(t, "big.bin", 8<<20)
	file := string(randomBytes(1, 8<<20))
	for _, change := range bothChanges {
		t.Run(change, func(t *testing.T) {
			c := harness.Default(t)
			s := harness.Prepare(t, c)
			local := "unix:" + filepath.Join(s.Dir, "web.sock")
			c = c.WithListeners(site("web", c.Address("web"), text, dir), site("local", local, text, dir))
			s.WriteConfig(c)
			s.Run()
			s.WaitServing(1)
			path := func(i int) string { return []string{"/", "/two", "/"}[i%3] }
			body := map[string]string{"/": text + "\n", "/two": text + " 2\n"}
			var many strings.Builder
			for i := range requests {
				fmt.Fprintf(&many, "GET %s HTTP/1.1\r\nHost: test\r\n\r\n", path(i))
			}
			var lists, files []*client
			for _, l := range c.Listeners {
				list, download := dialNarrow(t, l.Address), dialNarrow(t, l.Address)
				list.send(many.String() + "GET /two HT")
				download.send("GET /files/big.bin HTTP/1.1\r\nHost: test\r\n\r\n" + get + "GET /two HT")
				lists, files = append(lists, list), append(files, download)
			}
			waitBlocked(s)
			if r := replace(t, s, change); r.HandedOver != 4 || r.Finished > 0 {
				t.Errorf("receipt %+v, want all four connections handed over", r)
			}
			for _, conn := range lists {
				for i := range requests {
					conn.wantKept(body[path(i)])
				}
			}
			for _, conn := range files {
				conn.wantKept(file)
				conn.wantKept(body["/"])
			}
			for _, conn := range append(lists, files...) {
				conn.send("TP/1.1\r\nHost: test\r\n\r\n")
				conn.wantKept(body["/two"])
			}
		})
	}
}

// Of several ranges of a file, those not yet sent travel, and so does the client's
// wish to have the connection closed.
func TestRangesTravel(t *testing.T) {
	const size, part = 12 << 20, 4 << 20
	dir := randomFile(t, "big.bin", size)
	file := randomBytes(1, size)
	c := harness.Default(t)
	c = c.WithListeners(site("web", c.Address("web"), "hello", dir), c.Listeners[1])
	s := harness.Start(t, c)
	const ranges = "GET /files/big.bin HTTP/1.1\r\nHost: test\r\nRange: bytes=0-4194303,4194304-8388607,-4194304\r\n"
	kept, closing := dialNarrow(t, c.Address("web")), dialNarrow(t, c.Address("web"))
	kept.send(ranges + "\r\n")
	closing.send(ranges + "Connection: close\r\n\r\n")
	for _, change := range bothChanges {
		waitBlocked(s)
		if r := replace(t, s, change); r.HandedOver != 2 {
			t.Errorf("receipt %+v, want 2 handed over", r)
		}
		for _, conn := range []*client{kept, closing} { // a part of the first part
			conn.soon()
			if _, err := conn.r.Peek(conn.r.Size()); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, conn := range []*client{kept, closing} {
		resp, body := conn.answer()
		_, params, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
		must(t, err)
		if resp.StatusCode != 206 || resp.Close != (conn == closing) {
			t.Errorf("status %d, Connection: close %t", resp.StatusCode, resp.Close)
		}
		r := multipart.NewReader(strings.NewReader(body), params["boundary"])
		for i := range size / part {
			p, err := r.NextPart()
			must(t, err)
			got, err := io.ReadAll(p)
			if err != nil || !bytes.Equal(got, file[i*part:(i+1)*part]) {
				t.Errorf("part %d: %d bytes, error %v", i, len(got), err)
			}
		}
	}
	closing.wantEOF()
	kept.send(get)
	kept.wantKept("hello\n")
}

// A request that the next generation would refuse was begun under other rules,
// and ends under them.
func TestRequestOverNewLimitStays(t *testing.T) {
	for _, change := range bothChanges {
		t.Run(change, func(t *testing.T) {
			c := harness.Default(t).With("drain_timeout: 1m")
			address := c.Address("web")
			web := func(limits string) harness.Config {
				return c.WithListeners(harness.Listener{
					Name: "web", Address: address,
					Service: fmt.Sprintf(`http: {%s, routes: [{respond: {body: "hello\n"}}]}`, limits),
				})
			}
			s := harness.Start(t, web("max_body: 1MiB"))
			idle, posting, short := dial(t, address), dial(t, address), dial(t, address)
			idle.get()
			half := strings.Repeat("x", 50<<10)
			const head = "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: %d\r\n\r\n"
			large, small := fmt.Sprintf(head, 2*len(half))+half, fmt.Sprintf(head, 10)+half[:5]
			posting.send(large)
			short.send(small)
			s.WaitStatus("the halves to be read", func(st *control.Status) bool {
				return st.Totals.BytesIn == uint64(len(get)+len(large)+len(small))
			})
			s.WriteConfig(web("max_body: 1KiB"))
			r := s.Change(change)
			if !r.OK {
				t.Fatalf("%s: %+v", change, r)
			}
			s.WaitStatus("the others to have left", func(st *control.Status) bool {
				return len(st.Groups) == 2 && open(st, 1) == 1 && open(st, 2) == 2
			})
			posting.send(half)
			if resp, got := posting.answer(); resp.StatusCode != 200 || got != "hello\n" {
				t.Errorf("answer %d %q", resp.StatusCode, got)
			}
			short.send(half[:5])
			short.wantKept("hello\n")
			idle.send(get)
			idle.wantKept("hello\n")
			posting.Close()
			s.WaitServing(r.Generation)
		})
	}
}

// A client that has said all gets all, and then the end.
func TestHalfClosedTravels(t *testing.T) {
	dir := randomFile(t, "big.bin", 8<<20)
	file := randomBytes(1, 8<<20)
	for _, change := range bothChanges {
		t.Run(change, func(t *testing.T) {
			c := harness.Default(t)
			c = c.WithListeners(site("web", c.Address("web"), "hello", dir), c.Listeners[1])
			s := harness.Start(t, c)

			// From those that lie all in the server's buffers to those whose
			// client can't even send all before it reads.
			type echo struct {
				*client
				text []byte
				sent chan error
			}
			var echoes []echo
			for size := 64 << 10; size <= 8<<20; size *= 2 {
				e := echo{dialNarrow(t, c.Address("echo")), randomBytes(3, size), make(chan error, 1)}
				e.soon()
				go func() {
					_, err := e.Write(e.text)
					if err == nil {
						err = e.Conn.(*net.TCPConn).CloseWrite()
					}
					e.sent <- err
				}()
				echoes = append(echoes, e)
			}
			download := dialNarrow(t, c.Address("web"))
			download.send("GET /files/big.bin HTTP/1.1\r\nHost: test\r\n\r\n" + get)
			download.closeWrite()
			waitBlocked(s)
			replace(t, s, change)

			if resp, got := download.answer(); resp.StatusCode != 200 || !bytes.Equal([]byte(got), file) {
				t.Errorf("the file: status %d, %d bytes", resp.StatusCode, len(got))
			}
			if _, got := download.get2(); got != "hello\n" {
				t.Errorf("the answer behind the file is %q", got)
			}
			download.wantEOF()
			for _, e := range echoes {
				e.soon()
				got, err := io.ReadAll(e.r)
				if err != nil || !bytes.Equal(got, e.text) {
					t.Errorf("an echo of %d bytes: %d bytes, error %v", len(e.text), len(got), err)
				}
				if err := <-e.sent; err != nil {
					t.Errorf("an echo of %d bytes: %v", len(e.text), err)
				}
			}
		})
	}
}

// What the next generation doesn't serve any more ends where it began, politely;
// all else travels.
func TestListenerGoneDrains(t *testing.T) {
	for _, change := range bothChanges {
		for _, tt := range []struct {
			name string
			next []harness.Listener // in the place of the listener called gone
		}{
			{"removed", nil},
			{"another service", []harness.Listener{harness.Echo("gone", harness.Local(t))}},
		} {
			t.Run(change+", "+tt.name, func(t *testing.T) {
				c := harness.Default(t).With("drain_timeout: 1m")
				address := harness.Local(t)
				if tt.next != nil {
					address = tt.next[0].Address
				}
				s := harness.Start(t, c.WithListeners(append(c.Listeners[:2:2], harness.Answer("gone", address, "gone"))...))
				kept, half, leaves := dial(t, address), dial(t, address), dial(t, address)
				kept.get()
				leaves.get()
				half.send(get[:20])
				web, stream := dial(t, c.Address("web")), dial(t, c.Address("echo"))
				web.get()
				stream.echo("hello")

				s.WriteConfig(c.WithListeners(append(c.Listeners[:2:2], tt.next...)...))
				r := s.Change(change)
				if !r.OK {
					t.Fatalf("%s: %+v", change, r)
				}
				s.WaitStatus("all but three to have left the old generation", func(st *control.Status) bool {
					return len(st.Groups) == 2 && open(st, 1) == 3
				})
				web.send(get)
				web.wantKept("hello\n")
				stream.echo("hello again")

				kept.send(get)
				half.send(get[20:])
				for _, conn := range []*client{kept, half} {
					if resp, got := conn.answer(); !resp.Close || got != "gone\n" {
						t.Errorf("answer %q, Connection: close %t; want %q, and the end", got, resp.Close, "gone\n")
					}
					conn.wantEOF()
					conn.Close() // or the server would linger
				}
				leaves.Close()
				st := s.WaitServing(r.Generation)
				if last := st.LastChange; last == nil || last.HandedOver != 2 || last.Finished != 3 || last.Cut > 0 {
					t.Errorf("receipt %+v, want 2 handed over and 3 finished", last)
				}
				web.send(get)
				web.wantKept("hello\n")
				stream.echo("and again")
				if tt.next != nil {
					dial(t, address).echo("hello")
				} else {
					s.Wait("the removed address to be closed", func() bool { return refused(address) })
				}
			})
		}
	}
}

// open is the number of connections of a generation.
func open(st *control.Status, generation uint64) (n uint64) {
	for _, g := range st.Groups {
		for _, w := range g.Workers {
			if g.ID == generation {
				n += w.Connections
			}
		}
	}
	return n
}

// The drain timeout is for what can't travel. With connections that can, the old
// processes are gone at once: sooner, in any case, than a test waits.
func TestOldWorkersGoAtOnce(t *testing.T) {
	c := harness.Default(t).With("drain_timeout: 60s")
	s := harness.Start(t, c)
	var idle, streams []*client
	for range 30 {
		conn, stream := dial(t, c.Address("web")), dial(t, c.Address("echo"))
		conn.get()
		stream.echo("hello")
		idle, streams = append(idle, conn), append(streams, stream)
	}
	for _, change := range []string{"reload", "upgrade", "upgrade", "reload"} {
		if r := replace(t, s, change); r.HandedOver != 60 {
			t.Errorf("receipt %+v, want 60 handed over", r)
		}
		for i, conn := range idle {
			conn.send(get)
			conn.wantKept("hello\n")
			streams[i].echo(change)
		}
	}
	if n := open(s.Status(), 5); n != 60 {
		t.Errorf("%d connections in generation 5, want 60", n)
	}
}
