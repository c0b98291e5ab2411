package masters

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"reuseportd/internal/control"
	"reuseportd/test/harness"
	"reuseportd/test/kit"
)

// A proxied exchange in pieces, with a change of releases between two of them.
type proxied struct {
	name      string
	request   []string // pieces from the client
	response  []string // pieces from the server, behind the request
	want      string   // what the client gets, but for Date
	then      bool     // the connection is of use behind it
	heard     string   // what the server gets of the body, as it comes
	client    *kit.Client
	server    net.Conn
	got, sent bytes.Buffer
}

func exchanges() []*proxied {
	const post = " HTTP/1.1\r\nHost: test\r\n"
	ask := func(path string) string { return "GET /" + path + post + "\r\n" }
	ok := "HTTP/1.1 200 OK\r\n"
	return []*proxied{
		{
			name: "length", request: []string{ask("length")},
			response: []string{ok + "Content-Length: 16\r\n\r\nfour", "five", "six.", "last"},
			want:     ok + "Content-Length: 16\r\n\r\nfourfivesix.last", then: true,
		},
		{
			name: "chunks", request: []string{ask("chunks")},
			response: []string{ok + "Transfer-Encoding: chunked\r\n\r\n8\r\nfour", "five\r\n4\r\nsi", "x.\r\n0\r\nX-T: v\r\n", "\r\n"},
			want:     ok + "Transfer-Encoding: chunked\r\n\r\n4\r\nfour\r\n4\r\nfive\r\n2\r\nsi\r\n2\r\nx.\r\n0\r\nX-T: v\r\n\r\n", then: true,
		},
		{
			name: "close", request: []string{ask("close")},
			response: []string{ok + "\r\nfour", "five", "six.", ""},
			want:     ok + "Transfer-Encoding: chunked\r\n\r\n4\r\nfour\r\n4\r\nfive\r\n4\r\nsix.\r\n0\r\n\r\n", then: true,
		},
		{
			name: "head", request: []string{ask("head")},
			response: []string{"HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 200 O", "K\r\nContent-Le", "ngth: 4\r\n\r\nlast"},
			want:     "HTTP/1.1 100 Continue\r\n\r\n" + ok + "Content-Length: 4\r\n\r\nlast", then: true,
		},
		{
			name: "body", request: []string{"POST /body" + post + "Content-Length: 16\r\n\r\nfour", "five", "six.", "last"},
			response: []string{ok + "Content-Length: 2\r\n\r\nok"},
			want:     ok + "Content-Length: 2\r\n\r\nok", then: true, heard: "fourfivesix.last",
		},
		{
			name: "chunked body", request: []string{"POST /chunked" + post + "Transfer-Encoding: chunked\r\n\r\n8;a=b\r\nfour", "five\r\n4\r\nsi", "x.\r\n0\r\nX-T: v\r\n", "\r\n"},
			response: []string{ok + "Content-Length: 2\r\n\r\nok"},
			want:     ok + "Content-Length: 2\r\n\r\nok", then: true, heard: "4\r\nfour\r\n4\r\nfive\r\n2\r\nsi\r\n2\r\nx.\r\n0\r\nX-T: v\r\n\r\n",
		},
		{
			name: "tunnel", request: []string{"GET /tunnel" + post + "Connection: Upgrade\r\nUpgrade: x\r\n\r\n"},
			response: []string{"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\nfour", "five", "six.", "last"},
			want:     "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\nfourfivesix.last",
		},
	}
}

// Between this release and another one, there and back, everything that can be open goes on: the older
// one reads what this one writes, and this one what the older one wrote. The other one is a binary of the
// version "release", built with the tag failpoint: `make prove-release` builds it of a commit.
func TestBetweenReleases(t *testing.T) {
	other := os.Getenv("REUSEPORTD_RELEASE")
	if other == "" {
		t.Skip("REUSEPORTD_RELEASE names no binary of another release: see make prove-release")
	}
	this := harness.Build(t)
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	kit.Must(t, err)
	defer l.Close()
	dir := randomFile(t, "big.bin", 12<<20)
	file := randomBytes(1, 12<<20)
	c := harness.Default(t).With(fmt.Sprintf("upstreams: [{name: app, servers: [{address: %s}]}]", l.Addr()))
	c = c.WithListeners(site("web", c.Address("web"), "hello", dir),
		harness.Listener{Name: "front", Address: harness.Local(t), Service: "http: {routes: [{proxy: {upstream: app}}]}"})
	s := harness.Prepare(t, c)
	s.Install(other)
	s.Run()
	s.WaitServing(1)

	all := exchanges()
	for _, x := range all {
		x.client = kit.Dial(t, c.Address("front"))
		x.client.Send(x.request[0])
		x.server, err = l.Accept()
		kit.Must(t, err)
		t.Cleanup(func() { _ = x.server.Close() })
		x.step(t, 0)
	}
	ranges := dialNarrow(t, c.Address("web"))
	ranges.Send("GET /files/big.bin HTTP/1.1\r\nHost: test\r\nRange: bytes=0-6291455,6291456-\r\n\r\n")
	download := dialNarrow(t, c.Address("web"))
	download.Send("GET /files/big.bin HTTP/1.1\r\nHost: test\r\n\r\n" + kit.Get)
	cases := partials()
	var conns []*kit.Client
	var sent uint64
	for _, p := range cases {
		conn := kit.Dial(t, c.Address("web"))
		conn.Send(p.Before)
		for _, want := range p.Heard {
			if got, _ := conn.Get2(); got != want {
				t.Fatalf("%s: status %d, want %d", p.Name, got, want)
			}
		}
		conns = append(conns, conn)
		sent += uint64(len(p.Before))
	}
	open := uint64(len(all) + len(conns) + 2)
	s.WaitStatus("all that was sent to be read", func(st *control.Status) bool {
		return st.Totals.Accepted == open && st.Totals.BytesIn >= sent
	})
	for i, binary := range []string{this, other, this} {
		s.Install(binary)
		r := kit.Replace(t, s, "upgrade")
		if r.HandedOver != open || r.Finished > 0 || r.Cut > 0 || (r.Version == "test") != (binary == this) {
			t.Errorf("change %d: receipt %+v, want %d handed over", i+1, r, open)
		}
		for _, x := range all {
			x.step(t, i+1)
		}
	}
	for _, x := range all {
		x.end(t)
	}
	for i, p := range cases {
		t.Run(p.Name, func(t *testing.T) {
			conns[i].T = t
			conns[i].Finish(p)
		})
	}
	if resp, body := ranges.Answer(); resp.StatusCode != 206 || !strings.Contains(body, string(file[:6291456])) || !strings.Contains(body, string(file[6291456:])) {
		t.Errorf("ranges: %s, %d bytes", resp.Status, len(body))
	}
	download.WantKept(string(file))
	download.WantKept("hello\n")
}

// step is a piece from each side that has one, until it has arrived.
func (x *proxied) step(t *testing.T, i int) {
	t.Helper()
	if i > 0 && i < len(x.request) {
		x.client.Send(x.request[i])
	}
	if i < len(x.request) {
		readUntil(t, x.server, &x.sent, func(b string) bool {
			_, body, ok := strings.Cut(b, "\r\n\r\n")
			return ok && (x.heard == "" || len(body) >= len(x.heard)*(i+1)/len(x.request)-8 && len(body) > 0)
		})
	}
	if len(x.request) > 1 {
		return // its answer comes at the end
	}
	x.answer(t, i)
}

// answer is a piece from the server. What can be seen of it has arrived.
func (x *proxied) answer(t *testing.T, i int) {
	t.Helper()
	if i == len(x.response)-1 && x.response[i] == "" {
		_ = x.server.Close()
		return
	}
	_, err := io.WriteString(x.server, x.response[i])
	kit.Must(t, err)
	if x.name == "head" && i > 0 {
		return // nothing of it can be seen yet
	}
	mark := ""
	for _, m := range []string{"four", "five", "si", "six.", "x.", "X-T: v", "last", "100 Continue\r\n\r\n"} {
		if strings.Contains(x.response[i], m) {
			mark = m
		}
	}
	readUntil(t, x.client.Conn, &x.got, func(b string) bool { return strings.Contains(b, mark) })
}

// end is what is left of the exchange, all that came of it, and one more on its connection.
func (x *proxied) end(t *testing.T) {
	t.Helper()
	if len(x.request) > 1 {
		if _, body, _ := strings.Cut(x.sent.String(), "\r\n\r\n"); body != x.heard {
			readUntil(t, x.server, &x.sent, func(b string) bool { return strings.HasSuffix(b, x.heard) })
		}
		_, err := io.WriteString(x.server, x.response[0])
		kit.Must(t, err)
	}
	undated := func(b string) string {
		from, rest, _ := strings.Cut(b, "Date: ")
		_, rest, _ = strings.Cut(rest, "\r\n")
		return from + rest
	}
	readUntil(t, x.client.Conn, &x.got, func(b string) bool { return b == x.want || undated(b) == x.want })
	if !x.then {
		return
	}
	x.client.R = bufio.NewReader(x.client.Conn)
}

// readUntil reads until ok says that it is enough.
func readUntil(t *testing.T, c net.Conn, into *bytes.Buffer, ok func(string) bool) {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(harness.Within))
	buf := make([]byte, 4096)
	for !ok(into.String()) {
		n, err := c.Read(buf)
		into.Write(buf[:n])
		if err != nil && !ok(into.String()) {
			t.Fatalf("%v behind %q", err, into)
		}
	}
}
