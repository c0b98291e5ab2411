package conformance

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"reuseportd/internal/config"
	service "reuseportd/internal/service/http"
)

// FuzzServe sends any bytes through a socket and compares what the server
// understood with what net/http understands: as many requests, with bodies that
// end in the same places. It may refuse earlier, and must then say so and end the
// connection.
func FuzzServe(f *testing.F) {
	for _, c := range cases {
		f.Add([]byte(strings.Replace(c.in, "…", last, 1)))
	}
	conf := base("")
	// Nothing in a body may look like an answer.
	conf.Routes = []config.Route{{Path: "/", Respond: &config.Respond{Status: 200, Body: []byte("ok\n")}}}
	s := serve(f, "unix", conf, service.Options{AccessLog: -1})
	f.Fuzz(func(t *testing.T, in []byte) {
		if len(in) > 20_000 {
			return
		}
		got := s.throw(t, in)
		methods, refused := understood(in)
		r := bufio.NewReader(bytes.NewReader(got))
		answered := 0
		for {
			if _, err := r.Peek(1); err == io.EOF {
				break
			}
			method := "GET"
			if answered < len(methods) {
				method = methods[answered]
			}
			resp, err := http.ReadResponse(r, &http.Request{Method: method})
			if err != nil {
				t.Fatalf("answer %d of %q to %q: %v", answered, got, in, err)
			}
			if resp.StatusCode >= 400 { // it is stricter, or the method is unknown here
				if rest, _ := io.ReadAll(r); !resp.Close || len(rest) > 0 && int64(len(rest)) != resp.ContentLength {
					t.Fatalf("%d is not the end of %q to %q", resp.StatusCode, got, in)
				}
				return
			}
			if _, err := io.Copy(io.Discard, resp.Body); err != nil {
				t.Fatalf("answer %d of %q to %q: %v", answered, got, in, err)
			}
			if resp.StatusCode == 100 {
				continue
			}
			if answered++; answered > len(methods) && !refused {
				t.Fatalf("%d answers to %d requests: %q to %q", answered, len(methods), got, in)
			}
			if resp.Close {
				return
			}
		}
		if answered < len(methods) {
			t.Fatalf("%d answers to %d requests: %q to %q", answered, len(methods), got, in)
		}
	})
}

// throw sends bytes and the client's end, and returns what comes back.
func (s *server) throw(t *testing.T, in []byte) []byte {
	c, err := net.Dial(s.network, s.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	go func() {
		_, _ = c.Write(in)
		_ = c.(*net.UnixConn).CloseWrite()
	}()
	got, err := io.ReadAll(c)
	if err != nil {
		t.Fatalf("%v after %q to %q", err, got, in)
	}
	return got
}

// understood returns the methods of the requests that net/http finds, whole ones
// only. refused says that it dislikes what follows them.
func understood(in []byte) (methods []string, refused bool) {
	r := bufio.NewReaderSize(bytes.NewReader(in), len(in)+16)
	for {
		if head, _ := r.Peek(2); string(head) == "\r\n" {
			_, _ = r.Discard(2)
		}
		req, err := http.ReadRequest(r)
		if err != nil {
			return methods, err != io.EOF && err != io.ErrUnexpectedEOF
		}
		if _, err := io.Copy(io.Discard, req.Body); err != nil {
			return methods, err != io.ErrUnexpectedEOF
		}
		methods = append(methods, req.Method)
	}
}
