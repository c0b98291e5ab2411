package meter

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// conn is a client's connection. Its methods return a *fault or nil.
type conn struct {
	net.Conn
	r       *bufio.Reader
	timeout time.Duration
}

// dial connects and, unless t is nil, counts the connection.
func (m *Meter) dial(t *tally, address string) (*conn, error) {
	network, addr := splitAddress(address)
	d := net.Dialer{Timeout: m.cfg.Timeout, LocalAddr: m.source.next(address), Control: lateBind}
	d.SetMultipathTCP(false)
	began := time.Now()
	c, err := d.Dial(network, addr)
	if err != nil {
		return nil, &fault{Connect, err}
	}
	if t != nil {
		t.connected(time.Since(began))
	}
	return &conn{Conn: c, r: bufio.NewReaderSize(c, 1024), timeout: m.cfg.Timeout}, nil
}

// sources spreads connects over 127.0.0.1 … 127.0.0.8, so that connections in
// TIME_WAIT don't use up one address's ephemeral ports.
type sources struct{ n atomic.Uint32 }

func (s *sources) next(address string) net.Addr {
	if !strings.HasPrefix(address, "127.") {
		return nil
	}
	return &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(1+s.n.Add(1)%8))}
}

// lateBind leaves the choice of the port to connect, which knows the whole
// four-tuple (ip(7), IP_BIND_ADDRESS_NO_PORT).
func lateBind(network, _ string, c syscall.RawConn) error {
	if network != "tcp4" {
		return nil
	}
	var err error
	ctlErr := c.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
	})
	return errors.Join(err, ctlErr)
}

// answer is one whole response.
type answer struct {
	status int
	body   []byte
	close  bool // the server said Connection: close, or HTTP/1.0
}

// request is a GET; last asks for the connection to be closed after it.
func (m *Meter) request(path string, last bool) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "GET %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: lossmeter\r\n", path, m.cfg.Host)
	if last {
		b.WriteString("Connection: close\r\n")
	}
	b.WriteString("\r\n")
	return b.Bytes()
}

// postBody is the length of the body that post sends.
const postBody = 16

// post is a request with a body, for those who split it.
func (m *Meter) post(path string) []byte {
	return fmt.Appendf(nil, "POST %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: lossmeter\r\nContent-Length: %d\r\n\r\n%0*d",
		path, m.cfg.Host, postBody, postBody, 0)
}

func (c *conn) exchange(request []byte) (answer, error) {
	if err := c.send(request); err != nil {
		return answer{}, err
	}
	return c.answer()
}

func (c *conn) send(b []byte) error {
	if err := c.SetDeadline(time.Now().Add(c.timeout)); err != nil {
		return &fault{Write, err}
	}
	if _, err := c.Write(b); err != nil {
		return &fault{Write, err}
	}
	return nil
}

func (c *conn) answer() (answer, error) { return readAnswer(c.r) }

func readAnswer(r *bufio.Reader) (answer, error) {
	// An end before the first byte is told from one inside the head.
	if _, err := r.Peek(1); err != nil {
		return answer{}, &fault{ReadHead, err}
	}
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		return answer{}, &fault{ReadHead, err}
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return answer{}, &fault{ReadBody, fmt.Errorf("after %d bytes of the body: %w", len(body), err)}
	}
	return answer{resp.StatusCode, body, resp.Close}, nil
}

var errUnasked = errors.New("bytes that nobody asked for")

// idle waits for d, or until done is closed, and sees that the server keeps
// the connection and says nothing meanwhile.
func (c *conn) idle(done <-chan struct{}, d time.Duration) error {
	const slice = 100 * time.Millisecond // after which done is looked at
	for end := time.Now().Add(d); ; {
		until := time.Now().Add(slice)
		if end.Before(until) {
			until = end
		}
		if err := c.SetReadDeadline(until); err != nil {
			return &fault{Idle, err}
		}
		switch _, err := c.r.Peek(1); {
		case err == nil:
			return &fault{Idle, errUnasked}
		case !isTimeout(err):
			return &fault{Idle, err}
		}
		select {
		case <-done:
			return nil
		default:
		}
		if until.Equal(end) {
			return nil
		}
	}
}

// expectEOF sees that the server closes, as it announced, and adds nothing.
func (c *conn) expectEOF() error {
	if err := c.SetReadDeadline(time.Now().Add(c.timeout)); err != nil {
		return &fault{ReadBody, err}
	}
	switch _, err := c.r.Peek(1); {
	case err == nil:
		return &fault{ReadBody, errors.New("bytes after the last answer")}
	case isTimeout(err):
		return &fault{ReadBody, errors.New("still open after Connection: close")}
	}
	return nil // EOF, or a reset when all had been received
}
