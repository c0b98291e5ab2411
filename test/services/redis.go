package services

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"reuseportd/test/harness"
)

// Redis is a Redis server that keeps nothing.
type Redis struct {
	*harness.Program
	Port int
}

// StartRedis serves an empty database.
func StartRedis(t testing.TB) *Redis {
	t.Helper()
	harness.Need(t, "redis-server redis-tools", "redis-server", "redis-benchmark")
	r := &Redis{Port: harness.Port(t)}
	dir := harness.AccountDir(t)
	ready := func() bool {
		c, err := net.DialTimeout("tcp", r.Address(), time.Second)
		if err == nil {
			c.Close()
		}
		return err == nil
	}
	r.Program = harness.StartProgram(t, dir, syscall.SIGTERM, ready, "redis-server",
		"--port", fmt.Sprint(r.Port), "--bind", "127.0.0.1", "--dir", dir, "--save", "", "--appendonly", "no")
	return r
}

// Address is the server's own.
func (r *Redis) Address() string { return fmt.Sprintf("127.0.0.1:%d", r.Port) }

// RedisClient is one connection. What it is answered is one string each: the text of a
// simple string or a number, the bytes of a bulk string, an array's elements with a
// space between.
type RedisClient struct {
	t testing.TB
	c net.Conn
	r *bufio.Reader
}

// DialRedis connects.
func DialRedis(t testing.TB, address string) *RedisClient {
	t.Helper()
	c, err := net.DialTimeout("tcp", address, harness.Within)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return &RedisClient{t, c, bufio.NewReader(c)}
}

// Do sends one command and returns its answer.
func (r *RedisClient) Do(words ...string) string {
	r.t.Helper()
	r.Send(words...)
	return r.Answer()
}

// Send sends a command, and leaves the answer to Answer.
func (r *RedisClient) Send(words ...string) {
	r.t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "*%d\r\n", len(words))
	for _, w := range words {
		fmt.Fprintf(&b, "$%d\r\n%s\r\n", len(w), w)
	}
	if _, err := r.c.Write([]byte(b.String())); err != nil {
		r.t.Fatalf("redis: %v", err)
	}
}

// Answer waits for an answer, or a message.
func (r *RedisClient) Answer() string {
	r.t.Helper()
	if err := r.c.SetReadDeadline(time.Now().Add(harness.Within)); err != nil {
		r.t.Fatal(err)
	}
	text, err := r.value()
	if err != nil {
		r.t.Fatalf("redis: %v", err)
	}
	return text
}

// value reads one value, see "Redis serialization protocol specification".
func (r *RedisClient) value() (string, error) {
	line, err := r.r.ReadString('\n')
	if err != nil {
		return "", err
	}
	kind, line := line[0], strings.TrimRight(line[1:], "\r\n")
	switch kind {
	case '+', ':':
		return line, nil
	case '-':
		return "", fmt.Errorf("error %s", line)
	}
	n, err := strconv.Atoi(line)
	if err != nil || kind != '$' && kind != '*' {
		return "", fmt.Errorf("%c%s is no answer", kind, line)
	}
	if kind == '$' {
		data := make([]byte, max(0, n)+2)
		if n >= 0 {
			_, err = io.ReadFull(r.r, data)
		}
		return string(data[:max(0, n)]), err
	}
	var all []string
	for range n {
		v, err := r.value()
		if err != nil {
			return "", err
		}
		all = append(all, v)
	}
	return strings.Join(all, " "), nil
}
