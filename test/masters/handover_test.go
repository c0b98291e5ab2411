package masters

import (
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
	"reuseportd/test/kit"
	"reuseportd/test/meter"
)

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
	kit.Must(t, os.WriteFile(filepath.Join(dir, name), randomBytes(1, size), 0o644))
	return dir
}

func randomBytes(seed byte, size int) []byte {
	b := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(b) // never fails
	return b
}

// dialNarrow connects with a receive buffer so small that the server must wait
// with what it has to say.
func dialNarrow(t *testing.T, address string) *kit.Client {
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
	kit.Must(t, err)
	t.Cleanup(func() { c.Close() })
	return kit.NewClient(t, c)
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
	n := uint64(kit.Figures(1000, 5000))
	c := harness.Default(t)
	s := harness.Start(t, c)
	mc := meter.Config{HTTP: c.Address("web"), Strict: true, Idle: int(n), Timeout: 10 * time.Second}
	r := kit.LosingNothing(t, mc, func(m *meter.Meter) {
		for i := range 6 {
			change, workers := kit.BothChanges[i%2], 1+(i+2)%3
			m.Mark("%s %d, to %d workers", change, i/2+1, workers)
			s.WriteConfig(c.WithWorkers(workers))
			if r := kit.Replace(t, s, change); r.HandedOver != n || r.Finished > 0 {
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
	mc := kit.Clients(c)
	mc.Strict = true
	mc.KeptPause = 1
	r := kit.LosingNothing(t, mc, func(m *meter.Meter) {
		for i := range kit.Figures(5, 20) {
			for _, change := range kit.BothChanges {
				m.Mark("%s %d", change, i+1)
				if r := s.Change(change); !r.OK {
					t.Fatalf("%s %d: %+v", change, i+1, r)
				}
			}
		}
		m.Mark("all changes made")
		s.WaitServing(uint64(1 + 2*kit.Figures(5, 20)))
	})
	if k := r.Kind(meter.Kept); k.Connections != uint64(mc.Kept) {
		t.Errorf("%d connections of %d kept clients", k.Connections, mc.Kept)
	}
}

// Bytes under way in either direction, and a file half sent, arrive whole and in
// order.
func TestStreamsAndDownload(t *testing.T) {
	dir := randomFile(t, "big.bin", kit.Figures(20, 200)<<20)
	c := harness.Default(t)
	c = c.WithListeners(site("web", c.Address("web"), "hello", dir), c.Listeners[1])
	s := harness.Start(t, c)
	mc := meter.Config{
		HTTP: c.Address("web"), Echo: c.Address("echo"), Strict: true, Timeout: 10 * time.Second,
		Stream: kit.Figures(16, 64), StreamLife: 24 * time.Hour,
		Download: 1, DownloadRate: 4 << 20,
		DownloadPath: "/files/big.bin", DownloadFile: filepath.Join(dir, "big.bin"),
	}
	r := kit.LosingNothing(t, mc, func(m *meter.Meter) {
		for i := range kit.Figures(5, 20) {
			m.Mark("upgrade %d", i+1)
			kit.Replace(t, s, "upgrade")
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
	n := kit.Figures(10, 50)
	c := harness.Default(t).With("drain_timeout: 5m")
	s := harness.Start(t, c)
	stream := kit.Dial(t, c.Address("echo"))
	text := string(randomBytes(2, 100<<10))
	for range n {
		stream.Send(text) // and the echo is under way, or not yet read
		s.Upgrade()
		stream.WantBack(text)
	}
	st := s.WaitServing(uint64(n + 1))
	if st.Generation != uint64(n+1) {
		t.Errorf("generation %d after %d upgrades", st.Generation, n)
	}
	one := kit.Sorted(append(kit.Pids(st), st.PID))
	s.Wait("one generation of processes to be left", func() bool { return fmt.Sprint(s.Processes()) == fmt.Sprint(one) })
	stream.Echo("the last generation")
	stream.CloseWrite()
	stream.WantEOF()
}

func partials() []kit.Partial {
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
	all := []kit.Partial{
		{Name: "nothing sent", After: kit.Get, Want: hello},
		{Name: "idle", Before: kit.Get, Heard: []int{200}, After: two, Want: second},
		{Name: "an empty line", Before: "\r\n", After: kit.Get, Want: hello},
		{Name: "a long head", Before: "GET /two HTTP/1.1\r\nHost: test\r\nX-Long: " + long, After: long[:5000] + "\r\n\r\n", Want: second},
		{Name: "whole requests and half of one", Before: kit.Get + two + two[:20], Heard: []int{200, 200}, After: two[20:] + kit.Get, Want: []string{"hello 2\n", "hello\n"}},
		{Name: "before a body", Before: length, After: body, Want: second},
		{Name: "inside a body", Before: length + body[:100_001], After: body[100_001:], Want: second},
		{Name: "before a body's last byte", Before: length + body[:len(body)-1], After: body[len(body)-1:] + kit.Get, Want: []string{"hello 2\n", "hello\n"}},
		{Name: "expectation met", Before: expect, Heard: []int{100}, After: body + kit.Get, Want: []string{"hello 2\n", "hello\n"}},
		{Name: "expectation met, inside the body", Before: expect + body[:50_000], After: body[50_000:], Want: second},
		{Name: "HTTP/1.0", Before: "POST /two HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 9\r\n\r\nfour", After: "+five", Want: second},
		{Name: "Connection: close", Before: post + "Connection: close\r\nContent-Length: 9\r\n\r\nfour", After: "+five", Want: second, Ends: true},
	}
	for _, at := range []int{1, 7, 17, 18, 19, 25, len(two) - 3, len(two) - 1} {
		all = append(all, kit.Partial{Name: fmt.Sprintf("head split at %d", at), Before: two[:at], After: two[at:], Want: second})
	}
	for at := range chunks + trailer {
		if at < 13 || at > len(chunks)-4 {
			all = append(all, kit.Partial{
				Name:   fmt.Sprintf("chunks split at %d", at),
				Before: chunked + chunks + (chunks + trailer)[:at], After: (chunks + trailer)[at:] + kit.Get,
				Want: []string{"hello 2\n", "hello\n"},
			})
		}
	}
	return all
}

// Whatever part of a request has arrived, the next generation has it and answers
// when the rest comes.
func TestPartialRequestsTravel(t *testing.T) {
	for _, change := range kit.BothChanges {
		t.Run(change, func(t *testing.T) {
			c := harness.Default(t)
			c.Threads = 2
			s := harness.Prepare(t, c)
			local := "unix:" + filepath.Join(s.Dir, "web.sock")
			s.WriteConfig(c.WithListeners(c.Listeners[0], harness.Web("local", local)))
			s.Run()
			s.WaitServing(1)
			cases := partials()
			conns := make(map[string][]*kit.Client)
			var count, sent uint64
			for _, p := range cases {
				for _, address := range []string{c.Address("web"), local} {
					conn := kit.Dial(t, address)
					conn.Send(p.Before)
					for _, want := range p.Heard {
						if got, _ := conn.Get2(); got != want {
							t.Fatalf("%s: status %d, want %d", p.Name, got, want)
						}
					}
					conns[p.Name] = append(conns[p.Name], conn)
					count++
					sent += uint64(len(p.Before))
				}
			}
			s.WaitStatus("all that was sent to be read", func(st *control.Status) bool {
				return st.Totals.Accepted == count && st.Totals.BytesIn == sent
			})
			if r := kit.Replace(t, s, change); r.HandedOver != count || r.Finished > 0 {
				t.Errorf("receipt %+v, want %d handed over", r, count)
			}
			for _, p := range cases {
				t.Run(p.Name, func(t *testing.T) {
					for _, conn := range conns[p.Name] {
						conn.T = t
						conn.Finish(p)
					}
				})
			}
		})
	}
}

// Answers that nobody has read yet, and requests that wait behind them, are all
// answered in their order.
func TestUnreadAnswersTravel(t *testing.T) {
	const requests = 600 // more than a send buffer holds the answers to, 4 MiB
	text := strings.Repeat("0123456789abcdef", 1<<10)
	dir := randomFile(t, "big.bin", 8<<20)
	file := string(randomBytes(1, 8<<20))
	for _, change := range kit.BothChanges {
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
			var lists, files []*kit.Client
			for _, l := range c.Listeners {
				list, download := dialNarrow(t, l.Address), dialNarrow(t, l.Address)
				list.Send(many.String() + "GET /two HT")
				download.Send("GET /files/big.bin HTTP/1.1\r\nHost: test\r\n\r\n" + kit.Get + "GET /two HT")
				lists, files = append(lists, list), append(files, download)
			}
			waitBlocked(s)
			if r := kit.Replace(t, s, change); r.HandedOver != 4 || r.Finished > 0 {
				t.Errorf("receipt %+v, want all four connections handed over", r)
			}
			for _, conn := range lists {
				for i := range requests {
					conn.WantKept(body[path(i)])
				}
			}
			for _, conn := range files {
				conn.WantKept(file)
				conn.WantKept(body["/"])
			}
			for _, conn := range append(lists, files...) {
				conn.Send("TP/1.1\r\nHost: test\r\n\r\n")
				conn.WantKept(body["/two"])
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
	kept.Send(ranges + "\r\n")
	closing.Send(ranges + "Connection: close\r\n\r\n")
	for _, change := range kit.BothChanges {
		waitBlocked(s)
		if r := kit.Replace(t, s, change); r.HandedOver != 2 {
			t.Errorf("receipt %+v, want 2 handed over", r)
		}
		for _, conn := range []*kit.Client{kept, closing} { // a part of the first part
			conn.Soon()
			if _, err := conn.R.Peek(conn.R.Size()); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, conn := range []*kit.Client{kept, closing} {
		resp, body := conn.Answer()
		_, params, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
		kit.Must(t, err)
		if resp.StatusCode != 206 || resp.Close != (conn == closing) {
			t.Errorf("status %d, Connection: close %t", resp.StatusCode, resp.Close)
		}
		r := multipart.NewReader(strings.NewReader(body), params["boundary"])
		for i := range size / part {
			p, err := r.NextPart()
			kit.Must(t, err)
			got, err := io.ReadAll(p)
			if err != nil || !bytes.Equal(got, file[i*part:(i+1)*part]) {
				t.Errorf("part %d: %d bytes, error %v", i, len(got), err)
			}
		}
	}
	closing.WantEOF()
	kept.Send(kit.Get)
	kept.WantKept("hello\n")
}

// A request that the next generation would refuse was begun under other rules,
// and ends under them.
func TestRequestOverNewLimitStays(t *testing.T) {
	for _, change := range kit.BothChanges {
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
			idle, posting, short := kit.Dial(t, address), kit.Dial(t, address), kit.Dial(t, address)
			idle.Get()
			half := strings.Repeat("x", 50<<10)
			const head = "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: %d\r\n\r\n"
			large, small := fmt.Sprintf(head, 2*len(half))+half, fmt.Sprintf(head, 10)+half[:5]
			posting.Send(large)
			short.Send(small)
			s.WaitStatus("the halves to be read", func(st *control.Status) bool {
				return st.Totals.BytesIn == uint64(len(kit.Get)+len(large)+len(small))
			})
			s.WriteConfig(web("max_body: 1KiB"))
			r := s.Change(change)
			if !r.OK {
				t.Fatalf("%s: %+v", change, r)
			}
			s.WaitStatus("the others to have left", func(st *control.Status) bool {
				return len(st.Groups) == 2 && open(st, 1) == 1 && open(st, 2) == 2
			})
			posting.Send(half)
			if resp, got := posting.Answer(); resp.StatusCode != 200 || got != "hello\n" {
				t.Errorf("answer %d %q", resp.StatusCode, got)
			}
			short.Send(half[:5])
			short.WantKept("hello\n")
			idle.Send(kit.Get)
			idle.WantKept("hello\n")
			posting.Close()
			s.WaitServing(r.Generation)
		})
	}
}

// A client that has said all gets all, and then the end.
func TestHalfClosedTravels(t *testing.T) {
	dir := randomFile(t, "big.bin", 8<<20)
	file := randomBytes(1, 8<<20)
	for _, change := range kit.BothChanges {
		t.Run(change, func(t *testing.T) {
			c := harness.Default(t)
			c = c.WithListeners(site("web", c.Address("web"), "hello", dir), c.Listeners[1])
			s := harness.Start(t, c)

			// From those that lie all in the server's buffers to those whose
			// client can't even send all before it reads.
			type echo struct {
				*kit.Client
				text []byte
				sent chan error
			}
			var echoes []echo
			for size := 64 << 10; size <= 8<<20; size *= 2 {
				e := echo{dialNarrow(t, c.Address("echo")), randomBytes(3, size), make(chan error, 1)}
				e.Soon()
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
			download.Send("GET /files/big.bin HTTP/1.1\r\nHost: test\r\n\r\n" + kit.Get)
			download.CloseWrite()
			waitBlocked(s)
			kit.Replace(t, s, change)

			if resp, got := download.Answer(); resp.StatusCode != 200 || !bytes.Equal([]byte(got), file) {
				t.Errorf("the file: status %d, %d bytes", resp.StatusCode, len(got))
			}
			if _, got := download.Get2(); got != "hello\n" {
				t.Errorf("the answer behind the file is %q", got)
			}
			download.WantEOF()
			for _, e := range echoes {
				e.Soon()
				got, err := io.ReadAll(e.R)
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
	for _, change := range kit.BothChanges {
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
				kept, half, leaves := kit.Dial(t, address), kit.Dial(t, address), kit.Dial(t, address)
				kept.Get()
				leaves.Get()
				half.Send(kit.Get[:20])
				web, stream := kit.Dial(t, c.Address("web")), kit.Dial(t, c.Address("echo"))
				web.Get()
				stream.Echo("hello")

				s.WriteConfig(c.WithListeners(append(c.Listeners[:2:2], tt.next...)...))
				r := s.Change(change)
				if !r.OK {
					t.Fatalf("%s: %+v", change, r)
				}
				s.WaitStatus("all but three to have left the old generation", func(st *control.Status) bool {
					return len(st.Groups) == 2 && open(st, 1) == 3
				})
				web.Send(kit.Get)
				web.WantKept("hello\n")
				stream.Echo("hello again")

				kept.Send(kit.Get)
				half.Send(kit.Get[20:])
				for _, conn := range []*kit.Client{kept, half} {
					if resp, got := conn.Answer(); !resp.Close || got != "gone\n" {
						t.Errorf("answer %q, Connection: close %t; want %q, and the end", got, resp.Close, "gone\n")
					}
					conn.WantEOF()
					conn.Close() // or the server would linger
				}
				leaves.Close()
				st := s.WaitServing(r.Generation)
				if last := st.LastChange; last == nil || last.HandedOver != 2 || last.Finished != 3 || last.Cut > 0 {
					t.Errorf("receipt %+v, want 2 handed over and 3 finished", last)
				}
				web.Send(kit.Get)
				web.WantKept("hello\n")
				stream.Echo("and again")
				if tt.next != nil {
					kit.Dial(t, address).Echo("hello")
				} else {
					s.Wait("the removed address to be closed", func() bool { return kit.Refused(address) })
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
	var idle, streams []*kit.Client
	for range 30 {
		conn, stream := kit.Dial(t, c.Address("web")), kit.Dial(t, c.Address("echo"))
		conn.Get()
		stream.Echo("hello")
		idle, streams = append(idle, conn), append(streams, stream)
	}
	for _, change := range []string{"reload", "upgrade", "upgrade", "reload"} {
		if r := kit.Replace(t, s, change); r.HandedOver != 60 {
			t.Errorf("receipt %+v, want 60 handed over", r)
		}
		for i, conn := range idle {
			conn.Send(kit.Get)
			conn.WantKept("hello\n")
			streams[i].Echo(change)
		}
	}
	if n := open(s.Status(), 5); n != 60 {
		t.Errorf("%d connections in generation 5, want 60", n)
	}
}
