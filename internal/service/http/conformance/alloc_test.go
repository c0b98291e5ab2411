package conformance

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"reuseportd/internal/config"
	service "reuseportd/internal/service/http"
)

// TestNoAllocation: kept-alive requests through a real socket leave nothing for
// the garbage collector.
func TestNoAllocation(t *testing.T) {
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	root := t.TempDir()
	if err := os.WriteFile(root+"/a.css", make([]byte, 4<<10), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(root+"/large", make([]byte, 1<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, log string
		parts     []string
	}{
		{"plain", "", []string{get}},
		{"pipelined", "", []string{strings.Repeat(get, 16)}},
		{"in two halves", "", []string{get[:12], get[12:]}},
		{"browser", "", []string{"GET /a/b%20c/../d?q=1 HTTP/1.1\r\nHost: OTHER.example:8080\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\nAccept: */*\r\nAccept-Encoding: gzip\r\nConnection: keep-alive\r\n\r\n"}},
		{"body", "", []string{"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhe", "llo"}},
		{"chunked", "", []string{"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"}},
		{"large", "", []string{"GET /big HTTP/1.1\r\nHost: h\r\n\r\n"}},
		{"file", "", []string{"GET /files/a.css HTTP/1.1\r\nHost: h\r\n\r\n"}},
		{"large file", "", []string{"GET /files/large HTTP/1.1\r\nHost: h\r\n\r\n"}},
		{"file not modified", "", []string{"GET /files/a.css HTTP/1.1\r\nHost: h\r\nIf-None-Match: *\r\n\r\n"}},
		{"no file", "", []string{"GET /files/none HTTP/1.1\r\nHost: h\r\n\r\n"}},
		{"combined log", "combined", []string{get}},
		{"json log", "json", []string{get}},
	} {
		t.Run(c.name, func(t *testing.T) {
			conf := base(root)
			if c.log != "" {
				conf.AccessLog = &config.AccessLog{Format: c.log, File: "-"}
			}
			s := serve(t, "tcp", conf, service.Options{AccessLog: int(null.Fd())})
			conn := rawDial(t, s.addr)
			buf := make([]byte, 64<<10)
			answers := strings.Count(strings.Join(c.parts, ""), " HTTP/1.1\r\n")
			run := func(n int) {
				for range n {
					for _, p := range c.parts {
						rawWrite(t, conn, p)
						if len(c.parts) > 1 {
							runtime.Gosched()
							time.Sleep(20 * time.Microsecond)
						}
					}
					rawAnswers(t, conn, buf, answers)
				}
			}
			wantNoAllocation(t, run)
		})
	}
}

// TestConnectionAllocatesNothing: nor do connections, whoever closes them, with a log too.
func TestConnectionAllocatesNothing(t *testing.T) {
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	for _, c := range []struct {
		name, request string
		byClient      bool
	}{
		{"closed by the server", closing, false},
		{"closed by the client", get, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			conf := base("")
			conf.AccessLog = &config.AccessLog{Format: "combined", File: "-"}
			s := serve(t, "tcp", conf, service.Options{AccessLog: int(null.Fd())})
			at, buf := rawAddress(t, s.addr), make([]byte, 4<<10)
			wantNoAllocation(t, func(n int) {
				for range n {
					rawConnection(t, at, c.request, c.byClient, buf)
				}
			})
		})
	}
}

// wantNoAllocation has run do 200 requests, after which there is room for all, then 1000 that
// must need no more. The runtime's own few allocations meanwhile are not theirs.
func wantNoAllocation(t *testing.T, run func(n int)) {
	t.Helper()
	run(200)
	var a, b runtime.MemStats
	runtime.ReadMemStats(&a)
	run(1000)
	runtime.ReadMemStats(&b)
	if got := b.Mallocs - a.Mallocs; got > 50 {
		t.Errorf("%d allocations in 1000 requests", got)
	}
}

// rawAddress is the address of a server, to be used again: to make one allocates.
func rawAddress(t testing.TB, addr string) unix.Sockaddr {
	t.Helper()
	at := &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}
	if _, err := fmt.Sscanf(addr, "127.0.0.1:%d", &at.Port); err != nil {
		t.Fatal(err)
	}
	return at
}

func rawDial(t testing.TB, addr string) int {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.Connect(fd, rawAddress(t, addr)); err != nil {
		t.Fatal(err)
	}
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	return fd
}

func rawWrite(t testing.TB, fd int, s string) {
	if n, err := unix.Write(fd, unsafeBytes(s)); err != nil || n != len(s) {
		t.Fatal(n, err)
	}
}

// rawAnswers reads n answers without allocating.
func rawAnswers(t testing.TB, fd int, buf []byte, n int) {
	have := 0
	for n > 0 {
		k, err := unix.Read(fd, buf[have:])
		if err != nil || k == 0 {
			t.Fatal(k, err)
		}
		have += k
		for n > 0 {
			end := bytes.Index(buf[:have], []byte("\r\n\r\n"))
			if end < 0 {
				break
			}
			length := contentLength(buf[:end])
			drop := min(have, end+4+length)
			length -= drop - end - 4
			have = copy(buf, buf[drop:have])
			for length > 0 {
				k, err := unix.Read(fd, buf[:min(length, len(buf))])
				if err != nil || k == 0 {
					t.Fatal(k, err)
				}
				length -= k
			}
			n--
		}
	}
}

func contentLength(head []byte) (n int) {
	const name = "Content-Length: "
	at := bytes.Index(head, []byte(name))
	if at < 0 {
		return 0
	}
	for _, b := range head[at+len(name):] {
		if b < '0' || b > '9' {
			break
		}
		n = 10*n + int(b-'0')
	}
	return n
}
