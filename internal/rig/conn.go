package rig

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync/atomic"
	"time"
)

// answerTimeout is when a request without an answer is lost.
const answerTimeout = 5 * time.Second

var (
	keepRequest  = []byte("GET / HTTP/1.1\r\nHost: bench\r\n\r\n")
	closeRequest = []byte("GET / HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")
)

// Conn is a client's connection. An exchange on it allocates nothing, so that latencies
// don't include the client's garbage collection.
type Conn struct {
	net.Conn
	r *bufio.Reader
}

// source spreads connects over 127.0.0.1 … 127.0.0.8: connections in TIME_WAIT
// don't use up one address's ephemeral ports.
var source atomic.Uint32

// Dial connects to a server on this machine.
func Dial(ctx context.Context, address string) (*Conn, error) {
	d := net.Dialer{
		Timeout:   answerTimeout,
		LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(1+source.Add(1)%8))},
	}
	d.SetMultipathTCP(false)
	c, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	return &Conn{c, bufio.NewReaderSize(c, 512)}, nil
}

// Exchange sends a request and reads the whole answer. With last, it asks for
// the connection to be closed. It returns whether the server announced that.
func (c *Conn) Exchange(last bool) (closing bool, err error) {
	if err := c.SetDeadline(time.Now().Add(answerTimeout)); err != nil {
		return false, err
	}
	request := keepRequest
	if last {
		request = closeRequest
	}
	if _, err := c.Write(request); err != nil {
		return false, err
	}
	return c.answer()
}

var errNotUnderstood = errors.New("the answer is not understood")

// answer reads the answers that the contenders send: status 200, fields, and a body of
// Content-Length.
func (c *Conn) answer() (closing bool, err error) {
	line, err := c.r.ReadSlice('\n')
	if err != nil {
		return false, err
	}
	if !bytes.HasPrefix(line, []byte("HTTP/1.1 200 ")) {
		return false, fmt.Errorf("%w: %q", errNotUnderstood, line)
	}
	length := -1
	for {
		line, err := c.r.ReadSlice('\n')
		if err != nil {
			return false, unexpected(err)
		}
		if line = bytes.TrimRight(line, "\r\n"); len(line) == 0 {
			break
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimSpace(value)
		switch {
		case bytes.EqualFold(name, []byte("Content-Length")):
			if length, err = strconv.Atoi(string(value)); err != nil {
				return false, fmt.Errorf("%w: %q", errNotUnderstood, line)
			}
		case bytes.EqualFold(name, []byte("Connection")):
			closing = bytes.EqualFold(value, []byte("close"))
		}
	}
	if length < 0 {
		return false, fmt.Errorf("%w: it has no Content-Length", errNotUnderstood)
	}
	_, err = c.r.Discard(length)
	return closing, unexpected(err)
}

// unexpected turns io.EOF within an answer into io.ErrUnexpectedEOF.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// OpenIdle opens n connections, and makes one request on each. Even with an error it
// returns those that are open.
func OpenIdle(ctx context.Context, address string, n int) ([]*Conn, error) {
	var conns []*Conn
	for len(conns) < n {
		c, err := Dial(ctx, address)
		if err != nil {
			return conns, err
		}
		conns = append(conns, c)
		closing, err := c.Exchange(false)
		if err == nil && closing {
			err = errors.New("it is not kept")
		}
		if err != nil {
			return conns, fmt.Errorf("idle connection %d: %w", len(conns), err)
		}
	}
	return conns, nil
}

// CountLost sends one more request on each connection and returns how many of
// them were not answered. All are sent first, so that a server that hangs takes
// one timeout and not one for each.
func CountLost(conns []*Conn) int {
	lost := 0
	deadline := time.Now().Add(2 * answerTimeout)
	for _, c := range conns {
		// If this fails, so does reading the answer.
		_ = c.SetDeadline(deadline)
		_, _ = c.Write(keepRequest)
	}
	for _, c := range conns {
		if _, err := c.answer(); err != nil {
			lost++
		}
	}
	return lost
}

// CloseAll closes connections.
func CloseAll(conns []*Conn) {
	for _, c := range conns {
		_ = c.Close()
	}
}

// Serves reports whether a server answers on n fresh connections, with one request each.
func Serves(ctx context.Context, address string, n int) bool {
	conns, err := OpenIdle(ctx, address, n)
	CloseAll(conns)
	return err == nil
}
