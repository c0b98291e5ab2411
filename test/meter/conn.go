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
	return m.dialControlled(t, address, lateBind)
}

func (m *Meter) dialControlled(t *tally, address string, control func(string, string, syscall.RawConn) error) (*conn, error) {
	network, addr := splitAddress(address)
	d := net.Dialer{Timeout: m.cfg.Timeout, LocalAddr: m.source.next(address), Control: control}
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
			return &fault{Pause, err}
		}
		switch _, err := c.r.Peek(1); {
		case err == nil:
			return &fault{Pause, errUnasked}
		case !isTimeout(err):
			return &fault{Pause, err}
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

// end judges an end that an answer announced by Connection: close.
func (c *conn) end(t *tally) error {
	if err := t.ended(); err != nil {
		return err
	}
	return c.expectEOF()
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
