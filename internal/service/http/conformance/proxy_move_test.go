package conformance

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"testing"
)

// inPieces are exchanges in pieces. A bar in one shows that it has arrived.
var inPieces = map[string]struct {
	request, response []string
	body              string
	ends              bool // the response with the connection
}{
	"lengths": {
		[]string{"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 8\r\n\r\none|", "two|"},
		[]string{"HTTP/1.1 200 OK\r\nContent-Le", "ngth: 12\r\n\r\nuno|", "due|", "tre|"},
		"one|two|", false,
	},
	"chunks": {
		[]string{"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n8\r\none|", "two|\r", "\n4;x=y\r\nthr|", "\r\n0\r\nX-T: v|\r\n\r\n"},
		[]string{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n8\r\nuno|", "due|\r\n", "4\r\ntre|", "\r\n0\r\nX-T: v|\r\n\r\n"},
		"one|two|thr|", false,
	},
	"an interim response": {
		[]string{"GET /a HTTP/1.1\r\nHost: x\r\nX-End: |\r\n\r\n"},
		[]string{"HTTP/1.1 103 Early Hints\r\nX: y|\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\nuno|", "due|tre|"},
		"", false,
	},
	"to the end of the connection": {
		[]string{"GET /a HTTP/1.1\r\nHost: x\r\nX-End: |\r\n\r\n"},
		[]string{"HTTP/1.1 200 OK\r\n\r\nuno|", "due|", "tre|"},
		"", true,
	},
}

// TestProxyExchangeMoves hands an exchange over behind each of its pieces, there and back:
// nothing of it is lost, doubled or held back, and its connections are of use behind it.
func TestProxyExchangeMoves(t *testing.T) {
	for name, x := range inPieces {
		t.Run(name, func(t *testing.T) {
			far := make(chan net.Conn, 1)
			done := make(chan struct{})
			defer close(done)
			b := listen(t, func(c net.Conn, _ int) {
				far <- c
				<-done
			})
			from, to := twoFronts(t, b.addr)
			hop := func() {
				t.Helper()
				if n, _, err := from.handPooled(t, to); err != nil || n != 1 {
					t.Fatalf("%d moved, %v", n, err)
				}
				from, to = to, from
			}
			c := from.dial(t)
			var server net.Conn
			var sent, got bytes.Buffer
			bars := 0
			for _, piece := range x.request {
				_, _ = io.WriteString(c, piece)
				if server == nil {
					server = <-far
				}
				bars += bytes.Count([]byte(piece), []byte("|"))
				readBars(t, server, &sent, bars)
				hop()
			}
			bars = 0
			for i, piece := range x.response {
				_, _ = io.WriteString(server, piece)
				bars += bytes.Count([]byte(piece), []byte("|"))
				readBars(t, c, &got, bars)
				if i < len(x.response)-1 {
					hop()
				}
			}
			if x.ends {
				_ = server.Close()
			}
			req, err := http.ReadRequest(bufio.NewReader(io.MultiReader(&sent, server)))
			if err != nil {
				t.Fatal(err)
			}
			if body, err := io.ReadAll(req.Body); err != nil || string(body) != x.body {
				t.Errorf("the server got %q, %v", body, err)
			}
			r := bufio.NewReader(io.MultiReader(&got, c))
			resp, err := http.ReadResponse(r, nil)
			if err == nil && resp.StatusCode == 103 {
				resp, err = http.ReadResponse(r, nil)
			}
			if err != nil {
				t.Fatal(err)
			}
			if body, err := io.ReadAll(resp.Body); err != nil || string(body) != "uno|due|tre|" {
				t.Errorf("the client got %q, %v", body, err)
			}
			if x.ends {
				return
			}
			// Both connections are kept, and move on.
			from.waitFor(t, "the exchange's end", func(k eventCounters) bool { return k.Requests > 0 || k.TakenOver > 0 })
			if _, idle, err := from.handPooled(t, to); err != nil || idle != 1 {
				t.Fatalf("%d idle connections moved, %v", idle, err)
			}
			_, _ = io.WriteString(c, get)
			if _, err := http.ReadRequest(bufio.NewReader(server)); err != nil {
				t.Errorf("no second request: %v", err)
			}
			_, _ = io.WriteString(server, fine)
			if a := read(t, r, "GET"); a.body != "fine" {
				t.Error(a)
			}
			if n := b.accepted(); n != 1 {
				t.Errorf("%d connections were made", n)
			}
		})
	}
}

// readBars reads until so many bars have come.
func readBars(t *testing.T, c net.Conn, into *bytes.Buffer, bars int) {
	t.Helper()
	for p := make([]byte, 4096); bytes.Count(into.Bytes(), []byte("|")) < bars; {
		n, err := c.Read(p)
		into.Write(p[:n])
		if err != nil {
			t.Fatalf("after %q: %v", into.Bytes(), err)
		}
	}
}
