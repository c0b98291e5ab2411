package services

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"reuseportd/test/harness"
)

// Clients' connections on which nothing happens, and those to servers that wait for
// requests, are the same after all changes: no client and no server sees one end.
func TestIdleConnectionsTravel(t *testing.T) {
	b := StartBackend(t)
	echo := StartIll(t, func(c *net.TCPConn) { _, _ = io.Copy(c, c) })
	const each = 40 // fewer than idle_connections
	c := inFrontOf(t, b.Address(), proxy).WithWorkers(1)
	c.Top = append(c.Top, fmt.Sprintf("  - {name: echo, servers: [{address: %q}]}", echo.Address())) // one more upstream
	c = c.WithListeners(c.Listeners[0], harness.Listener{Name: "echo", Address: harness.Local(t), Service: "tcp: {upstream: echo}"})
	s := harness.Start(t, c)

	var web, pairs []*keptConn
	for range each {
		web = append(web, keep(t, c.Address("front")))
		pairs = append(pairs, keep(t, c.Address("echo")))
	}
	// all asks on all connections at the same time: no answer is whole before all
	// have begun.
	all := func(round int) {
		t.Helper()
		b.Gate.Shut()
		for _, k := range web {
			k.send("GET /down?size=2&steps=2 HTTP/1.1\r\nHost: test\r\n\r\n")
			k.wantHead()
		}
		b.Gate.Open(1)
		for _, k := range web {
			k.wantBody(2)
		}
		for i, k := range pairs {
			k.echo(fmt.Sprintf("round %d, pair %d", round, i))
		}
	}
	all(0)
	for i := range changes {
		if r := s.ChangeOver(changeOf(i)); r.HandedOver != 2*each || r.Finished > 0 {
			t.Errorf("receipt %+v, want %d handed over, none finished", r, 2*each)
		}
		k := web[i%each]
		k.send("GET /hello HTTP/1.1\r\nHost: test\r\n\r\n")
		k.wantHead()
		k.wantBody(5)
		pairs[i%each].echo("hello")
	}
	all(1)
	if n, m := b.Accepted.Load(), echo.Accepted.Load(); n != each || m != each {
		t.Errorf("the servers have accepted %d and %d connections, want %d each", n, m, each)
	}
	for _, k := range append(web, pairs...) {
		k.c.Close()
	}
	settled(t, s, "behind", "echo")
}

// keptConn is a client's connection that must last.
type keptConn struct {
	t    *testing.T
	c    net.Conn
	r    *bufio.Reader
	body io.Reader
}

func keep(t *testing.T, address string) *keptConn {
	t.Helper()
	c := dial(t, address)
	return &keptConn{t: t, c: c, r: bufio.NewReader(c)}
}

func (k *keptConn) send(text string) {
	k.t.Helper()
	must(k.t, k.c.SetDeadline(time.Now().Add(2*harness.Within)))
	_, err := io.WriteString(k.c, text)
	must(k.t, err)
}

func (k *keptConn) wantHead() {
	k.t.Helper()
	resp, err := http.ReadResponse(k.r, nil)
	must(k.t, err)
	if resp.StatusCode != 200 || resp.Close {
		k.t.Fatalf("status %s, Connection: close %t", resp.Status, resp.Close)
	}
	k.body = resp.Body
}

func (k *keptConn) wantBody(size int) {
	k.t.Helper()
	text, err := io.ReadAll(k.body)
	if err != nil || len(text) != size {
		k.t.Fatalf("a body of %d bytes, error %v; want %d", len(text), err, size)
	}
}

func (k *keptConn) echo(text string) {
	k.t.Helper()
	k.send(text)
	got := make([]byte, len(text))
	if _, err := io.ReadFull(k.r, got); err != nil || string(got) != text {
		k.t.Fatalf("echo %q, error %v, want %q", got, err, text)
	}
}
