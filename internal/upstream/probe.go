package upstream

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"time"
)

// maxProbe bounds how much of an answer is read, in bytes.
const maxProbe = 16 << 10

// proxyLocal is, by version, the header of the PROXY protocol for a connection that is made
// on nobody's behalf. A server with send_proxy expects it first (haproxy.org,
// proxy-protocol.txt, 2.1 and 2.2).
var proxyLocal = map[int]string{
	1: "PROXY UNKNOWN\r\n",
	2: "\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00",
}

// probe connects to the server, and makes the request that the configuration asks for, if
// any.
func (s *Server) probe(ctx context.Context) error {
	var d net.Dialer
	network := "tcp"
	if s.Conf.Network == "unix" {
		network = "unix"
	}
	conn, err := d.DialContext(ctx, network, s.dial)
	if err != nil {
		if isTimeout(err) {
			return errors.New(ConnectTimeout.String())
		}
		return err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if err := s.ask(ctx, conn); err != nil {
		if isTimeout(err) {
			return errors.New(AnswerTimeout.String())
		}
		return err
	}
	return nil
}

func isTimeout(err error) bool {
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded)
}

func (s *Server) ask(ctx context.Context, conn net.Conn) error {
	check := s.pool.conf.Check
	hello := proxyLocal[s.pool.conf.SendProxy]
	if conf := s.pool.tls.Load(); conf != nil {
		if _, err := io.WriteString(conn, hello); err != nil { // in front of the handshake
			return err
		}
		secure, err := s.shake(ctx, conn, conf)
		if err != nil {
			return err
		}
		conn, hello = secure, ""
	}
	if check.Path != "" {
		host := check.Host
		if host == "" {
			host = s.Host()
		}
		hello += "GET " + check.Path + " HTTP/1.1\r\nHost: " + host +
			"\r\nUser-Agent: reuseportd-check\r\nAccept: */*\r\nConnection: close\r\n\r\n"
	}
	if hello != "" {
		if _, err := io.WriteString(conn, hello); err != nil {
			return err
		}
	}
	if check.Path == "" {
		return nil
	}
	status, err := readStatus(conn)
	if err != nil {
		return err
	}
	if status < check.StatusFrom || status > check.StatusTo {
		return fmt.Errorf("it answered %d", status)
	}
	return nil
}

// shake makes a handshake.
func (s *Server) shake(ctx context.Context, conn net.Conn, conf *tls.Config) (net.Conn, error) {
	if conf.ServerName == "" {
		conf = conf.Clone()
		conf.ServerName = s.TLSName()
	}
	secure := tls.Client(conn, conf)
	if err := secure.HandshakeContext(ctx); err != nil {
		if isTimeout(err) {
			return nil, err
		}
		return nil, fmt.Errorf("%s: %w", NoTrust, err)
	}
	return secure, nil
}

var (
	errMalformed = errors.New(Malformed.String())
	errClosed    = errors.New(ClosedEarly.String())
)

// readStatus returns the final status of a response, after any interim ones (1xx, RFC 9110 section
// 15.2).
func readStatus(from io.Reader) (int, error) {
	r := bufio.NewReader(io.LimitReader(from, maxProbe))
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return 0, brokenOff(err)
		}
		status, ok := parseStatus(line)
		if !ok {
			return 0, errMalformed
		}
		if status >= 200 || status == 101 {
			return status, nil
		}
		for len(bytes.TrimRight(line, "\r\n")) > 0 {
			if line, err = r.ReadSlice('\n'); err != nil {
				return 0, brokenOff(err)
			}
		}
	}
}

func brokenOff(err error) error {
	switch {
	case errors.Is(err, io.EOF):
		return errClosed
	case errors.Is(err, bufio.ErrBufferFull):
		return errMalformed
	}
	return err
}

// parseStatus reads "HTTP/1.1 200 OK\r\n".
func parseStatus(line []byte) (status int, ok bool) {
	line = bytes.TrimRight(line, "\r\n")
	if len(line) < 12 || !bytes.HasPrefix(line, []byte("HTTP/1.")) || line[7] < '0' || line[7] > '9' || line[8] != ' ' {
		return 0, false
	}
	if len(line) > 12 && line[12] != ' ' {
		return 0, false
	}
	n, err := strconv.ParseUint(string(line[9:12]), 10, 16)
	return int(n), err == nil && n >= 100
}
