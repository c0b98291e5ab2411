package kit

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"reuseportd/test/harness"
)

// Client is one plain connection.
type Client struct {
	net.Conn
	T *testing.T
	R *bufio.Reader
}

// NewClient is a client on a connection that is there.
func NewClient(t *testing.T, c net.Conn) *Client { return &Client{c, t, bufio.NewReader(c)} }

// Dial connects to an address, or to the Unix socket behind "unix:".
func Dial(t *testing.T, address string) *Client {
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
	return NewClient(t, c)
}

// Soon bounds the next step.
func (c *Client) Soon() {
	c.T.Helper()
	if err := c.SetDeadline(time.Now().Add(2 * harness.Within)); err != nil {
		c.T.Fatal(err)
	}
}

func (c *Client) Send(text string) {
	c.T.Helper()
	c.Soon()
	if _, err := io.WriteString(c, text); err != nil {
		c.T.Fatal(err)
	}
}

// Answer reads a response and its body.
func (c *Client) Answer() (*http.Response, string) {
	c.T.Helper()
	c.Soon()
	resp, err := http.ReadResponse(c.R, nil)
	if err != nil {
		c.T.Fatalf("read an answer: %v", err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		c.T.Fatalf("read an answer's body: %v", err)
	}
	resp.Body.Close()
	return resp, string(body)
}

// Get is a request that leaves the connection open.
const Get = "GET / HTTP/1.1\r\nHost: test\r\n\r\n"

// Get asks for / and wants a 200.
func (c *Client) Get() (*http.Response, string) {
	c.T.Helper()
	c.Send(Get)
	resp, body := c.Answer()
	if resp.StatusCode != http.StatusOK {
		c.T.Fatalf("status %s: %s", resp.Status, body)
	}
	return resp, body
}

// Echo sends text and wants it back.
func (c *Client) Echo(text string) {
	c.T.Helper()
	c.Send(text)
	c.WantBack(text)
}

func (c *Client) WantBack(text string) {
	c.T.Helper()
	c.Soon()
	got := make([]byte, len(text))
	if _, err := io.ReadFull(c.R, got); err != nil {
		c.T.Fatalf("read an echo: %v", err)
	}
	if !bytes.Equal(got, []byte(text)) {
		c.T.Fatalf("echo %.40q, want %.40q", got, text)
	}
}

// CloseWrite half-closes.
func (c *Client) CloseWrite() {
	c.T.Helper()
	if err := c.Conn.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		c.T.Fatal(err)
	}
}

// WantEOF wants the server's end of the connection, and nothing before it.
func (c *Client) WantEOF() {
	c.T.Helper()
	c.Soon()
	if b, err := c.R.ReadByte(); !errors.Is(err, io.EOF) {
		c.T.Fatalf("got byte %#x and error %v, want the end of the file", b, err)
	}
}

// Prove uses a connection, whose service is told by its number, and reports whether it is
// as it should be.
func (c *Client) Prove(i int) error {
	c.Soon()
	text, want := Get, "HTTP/1.1 200 OK\r\n"
	if i%2 == 1 {
		text = fmt.Sprintf("connection %d", i)
		want = text
	}
	if _, err := io.WriteString(c, text); err != nil {
		return err
	}
	if i%2 == 0 {
		line, err := c.R.ReadString('\n')
		if err != nil || line != want {
			return fmt.Errorf("%q: %w", line, err)
		}
		for body := false; !body || line != "hello\n"; body = body || line == "\r\n" {
			if line, err = c.R.ReadString('\n'); err != nil || strings.HasPrefix(line, "Connection: close") {
				return fmt.Errorf("%q: %w", line, err)
			}
		}
		return nil
	}
	got := make([]byte, len(want))
	if _, err := io.ReadFull(c.R, got); err != nil || string(got) != want {
		return fmt.Errorf("%q: %w", got, err)
	}
	return nil
}

// WantEnd wants the server's end of the connection, by a reset too, and no byte
// before it.
func (c *Client) WantEnd() {
	c.T.Helper()
	c.Soon()
	if b, err := c.R.ReadByte(); !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
		c.T.Fatalf("got byte %#x and error %v, want the connection's end", b, err)
	}
}

// UntilClose asks until an answer says that the connection closes, and wants that.
func (c *Client) UntilClose(body string) (answers int) {
	c.T.Helper()
	for {
		resp, text := c.Get()
		if answers++; text != body {
			c.T.Fatalf("answer %q", text)
		}
		if resp.Close {
			c.WantEOF()
			return answers
		}
	}
}

// Ask wants a text for a path.
func (c *Client) Ask(path, want string) {
	c.T.Helper()
	c.Send("GET " + path + " HTTP/1.1\r\nHost: a.example\r\n\r\n")
	if resp, got := c.Answer(); resp.StatusCode != http.StatusOK || got != want {
		c.T.Errorf("%s: %s %q, want %q", path, resp.Status, got, want)
	}
}

// Get2 reads the answer to a get that was sent before.
func (c *Client) Get2() (int, string) {
	c.T.Helper()
	resp, text := c.Answer()
	return resp.StatusCode, text
}

// WantKept wants an answer on a connection that stays.
func (c *Client) WantKept(body string) {
	c.T.Helper()
	resp, got := c.Answer()
	if resp.StatusCode != 200 || got != body {
		c.T.Fatalf("answer %d %.60q of %d bytes, want %.60q of %d", resp.StatusCode, got, len(got), body, len(body))
	}
	if resp.Close {
		c.T.Fatal("the answer says Connection: close")
	}
}

// Finish is the part of p behind the change, and one request more.
func (c *Client) Finish(p Partial) {
	c.T.Helper()
	c.Send(p.After)
	if strings.Contains(p.Before, "Expect:") && p.Heard == nil {
		// Some of the body was there, but the server may have wanted the rest.
		c.Soon()
		if b, err := c.R.Peek(12); err == nil && string(b) == "HTTP/1.1 100" {
			c.Get2()
		}
	}
	for _, want := range p.Want {
		if p.Ends {
			if resp, got := c.Answer(); got != want || !resp.Close {
				c.T.Errorf("answer %q, Connection: close %t; want %q, and the end", got, resp.Close, want)
			}
			c.WantEOF()
			return
		}
		c.WantKept(want)
	}
	c.Send(Get)
	c.WantKept("hello\n")
}

// Proves wants one byte back.
func Proves(c net.Conn) error {
	b := []byte("x")
	if _, err := c.Write(b); err != nil {
		return err
	}
	_, err := io.ReadFull(c, b)
	return err
}
