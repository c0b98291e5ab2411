package conformance

import (
	"bufio"
	"bytes"
	"io"
	"mime"
	"mime/multipart"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"reuseportd/internal/config"
	"reuseportd/internal/eventloop"
	"reuseportd/internal/pack"
	service "reuseportd/internal/service/http"
)

// carry is what a channel between two processes does to a parcel.
func carry(t testing.TB, p eventloop.Parcel) eventloop.Parcel {
	t.Helper()
	again := func(fd int) int {
		if fd < 0 {
			return fd
		}
		fd, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		return fd
	}
	p.In, p.Out, p.Tail, p.State = slices.Clone(p.In), slices.Clone(p.Out), slices.Clone(p.Tail), slices.Clone(p.State)
	p.FD, p.File, p.Files = again(p.FD), again(p.File), slices.Clone(p.Files)
	for i := range p.Files {
		p.Files[i] = again(p.Files[i])
	}
	return p
}

// hand has another server go on with all of this one's connections. What that one
// refuses stays. It returns what moved, or was to.
func (s *server) hand(t testing.TB, to *server) (parcels []eventloop.Parcel, refused error) {
	t.Helper()
	var ds []eventloop.Departure
	s.onLoop(func() {
		s.DrainTo(nil)
		ds = s.Depart(1 << 20)
	})
	for i := range ds {
		p := carry(t, ds[i].Parcel)
		parcels = append(parcels, p)
		var c *eventloop.Conn
		var err error
		to.onLoop(func() { c, err = to.Arrive(to.svc, &p) })
		if err != nil {
			refused = err
			for _, fd := range p.FDs() {
				_ = unix.Close(fd)
			}
			s.onLoop(func() { s.Return(&ds[i], false) })
			continue
		}
		s.onLoop(func() { s.Departed(&ds[i]) })
		to.onLoop(func() { to.Begin(c) })
	}
	return parcels, refused
}

// twoServers serve the same.
func twoServers(t testing.TB, network string, conf *config.HTTP) (a, b *server) {
	t.Helper()
	o := service.Options{AccessLog: -1}
	return serve(t, network, conf, o), serve(t, network, conf, o)
}

// TestMovedBetween sends every case in two parts and hands the connection over
// between them, split at many places: the answers are the same ones.
func TestMovedBetween(t *testing.T) {
	from, to := twoServers(t, "unix", base(""))
	still := serve(t, "unix", base(""), service.Options{AccessLog: -1})
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			in := strings.Replace(c.in, "…", last, 1)
			want := undated(still.feed(t, in))
			end := len(in)
			if c.want == "200" {
				end = strings.Index(c.in, "…") // see TestSplits
			}
			for i := 1; i < end; i += 1 + end/20 {
				conn := from.dial(t)
				from.send(t, conn, in[:i])
				if _, err := from.hand(t, to); err != nil {
					t.Fatalf("split at %d: refused: %v", i, err)
				}
				_, _ = io.WriteString(conn, in[i:])
				got, err := io.ReadAll(conn)
				if err != nil || undated(string(got)) != want {
					t.Fatalf("split at %d (%q | %q): %v\n%q\nwhole:\n%q", i, in[max(0, i-20):i], in[i:min(len(in), i+20)], err, got, want)
				}
				conn.Close()
			}
		})
	}
}

// TestMovedAfterEachByte hands a connection over after every byte of a request with
// a body: in each step of a chunked one, and within a chunk.
func TestMovedAfterEachByte(t *testing.T) {
	a, b := twoServers(t, "unix", base(""))
	for _, in := range []string{
		"\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n" + last,
		"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello" + last,
		"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3;a=b\r\nabc\r\nA\r\n0123456789\r\n0\r\nA: b\r\n\r\n" + last,
		"POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n" + last,
	} {
		whole := undated(serve(t, "unix", base(""), service.Options{AccessLog: -1}).feed(t, in))
		steps := make(map[uint64]bool)
		conn := a.dial(t)
		from, to := a, b
		for i := range len(in) - 1 {
			from.send(t, conn, in[i:i+1])
			moved, err := from.hand(t, to)
			if err != nil || len(moved) != 1 {
				t.Fatalf("after %q: %d moved, %v", in[:i+1], len(moved), err)
			}
			if r := pack.NewReader(moved[0].State); r.Len() > 0 && r.Uint() == 1 {
				r.Bytes()
				if length := r.Uint(); length == 0 {
					steps[r.Uint()] = true
				}
			}
			from, to = to, from
		}
		_, _ = io.WriteString(conn, in[len(in)-1:])
		if got, err := io.ReadAll(conn); err != nil || undated(string(got)) != whole {
			t.Errorf("%q: %v\n%q\nwhole:\n%q", in, err, got, whole)
		}
		if strings.Contains(in, "A: b") && len(steps) != 4 {
			t.Errorf("%q: moved in the steps %v of a chunked body", in, steps)
		}
	}
}

// TestMovedParts hands a connection over again and again while it is sent several
// ranges of a file, in the middle of each.
func TestMovedParts(t *testing.T) {
	root := t.TempDir()
	file := bytes.Repeat([]byte("0123456789abcdef"), 1<<20)
	for i := range file {
		file[i] ^= byte(i >> 12)
	}
	if err := os.WriteFile(filepath.Join(root, "a.bin"), file, 0o644); err != nil {
		t.Fatal(err)
	}
	spans := [][2]int{{1, 5 << 20}, {6 << 20, 11<<20 + 5}, {0, 5 << 20}}
	const request = "GET /files/a.bin HTTP/1.1\r\nHost: h\r\nRange: bytes=1-5242879,6291456-11534340,0-5242879\r\n"
	for _, then := range []string{"", "Connection: close\r\n"} {
		a, b := twoServers(t, "tcp", base(root))
		conn := a.dial(t)
		_ = conn.(*net.TCPConn).SetReadBuffer(64 << 10)
		_, _ = io.WriteString(conn, request+then+"\r\n")
		left := make(map[uint64]int) // hops by the parts that were left
		from, to := a, b
		r := bufio.NewReaderSize(readerFunc(func(p []byte) (int, error) {
			n, err := conn.Read(p)
			moved, refused := from.hand(t, to)
			if refused != nil {
				t.Fatal(refused)
			}
			if len(moved) == 1 {
				from, to = to, from
				if s := pack.NewReader(moved[0].State); s.Len() > 0 && s.Uint() == 2 {
					s.Uint()
					s.Bytes()
					left[s.Uint()]++
				}
			}
			return n, err
		}), 128<<10)
		resp, err := http.ReadResponse(r, nil)
		if err != nil || resp.StatusCode != 206 {
			t.Fatal(resp, err)
		}
		_, params, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
		if err != nil {
			t.Fatal(err)
		}
		parts := multipart.NewReader(resp.Body, params["boundary"])
		for _, span := range spans {
			part, err := parts.NextRawPart()
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(part)
			if err != nil || !bytes.Equal(got, file[span[0]:span[1]]) {
				t.Errorf("%d bytes of part %v, or others: %v", len(got), span, err)
			}
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			t.Error(err)
		}
		if left[0] == 0 || left[1] == 0 || left[2] == 0 {
			t.Errorf("moved with so many parts left: %v", left)
		}
		if then == "" {
			_, _ = io.WriteString(conn, last)
			if a := read(t, r, "GET"); a.status != 200 {
				t.Errorf("got %+v", a)
			}
		}
		nothingMore(t, r)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// TestMovedToOtherLimits: a request that is under way and that the next
// configuration would refuse is answered where it began, and nothing is left behind.
func TestMovedToOtherLimits(t *testing.T) {
	for name, c := range map[string]struct {
		in, rest string
		change   func(*config.HTTP)
	}{
		"length":  {"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 101\r\n\r\na", strings.Repeat("b", 100), func(c *config.HTTP) { c.MaxBody = 100 }},
		"chunked": {"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n65\r\na", strings.Repeat("b", 100) + "\r\n0\r\n\r\n", func(c *config.HTTP) { c.MaxBody = 100 }},
		"head":    {"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\nX: " + strings.Repeat("x", 300) + "\r\n\r\na", "b", func(c *config.HTTP) { c.MaxHeader = 300 }},
		"line":    {"POST /" + strings.Repeat("x", 100) + " HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\na", "b", func(c *config.HTTP) { c.MaxRequestLine = 100 }},
	} {
		t.Run(name, func(t *testing.T) {
			from := serve(t, "unix", base(""), service.Options{AccessLog: -1})
			conf := base("")
			c.change(conf)
			to := serve(t, "unix", conf, service.Options{AccessLog: -1})
			conn := from.dial(t)
			from.send(t, conn, c.in)
			before := descriptors()
			moved, err := from.hand(t, to)
			if after := descriptors(); len(moved) != 1 || err == nil || !strings.Contains(err.Error(), "limits") || after != before {
				t.Fatalf("%d moved, refused with %v; %d descriptors before, %d after", len(moved), err, before, after)
			}
			if k := to.count(); k.Open != 0 {
				t.Errorf("counted %+v", k)
			}
			_, _ = io.WriteString(conn, c.rest)
			r := bufio.NewReader(conn)
			if a := read(t, r, "POST"); a.status != 200 || !a.close {
				t.Errorf("got %+v, want the last answer", a)
			}
			nothingMore(t, r)
		})
	}
}

// TestMovedHeadToOtherLimits: half a head is the next loop's to refuse.
func TestMovedHeadToOtherLimits(t *testing.T) {
	from := serve(t, "unix", base(""), service.Options{AccessLog: -1})
	conf := base("")
	conf.MaxHeader = 100
	to := serve(t, "unix", conf, service.Options{AccessLog: -1})
	conn := from.dial(t)
	from.send(t, conn, "GET / HTTP/1.1\r\nHost: h\r\nX: "+strings.Repeat("x", 200))
	if moved, err := from.hand(t, to); len(moved) != 1 || err != nil {
		t.Fatalf("%d moved, %v", len(moved), err)
	}
	_, _ = io.WriteString(conn, "\r\n\r\n")
	r := bufio.NewReader(conn)
	if a := read(t, r, "GET"); a.status != 431 || !a.close {
		t.Errorf("got %+v", a)
	}
	nothingMore(t, r)
}
