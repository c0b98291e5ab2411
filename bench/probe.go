package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"golang.org/x/sys/unix"

	"reuseportd/internal/rig"
)

// probers is how many polite clients there are, each of which pauses for probePause between two requests.
const (
	probers      = 4
	probePause   = 10 * time.Millisecond
	probeTimeout = 10 * time.Second
)

const probesFailed = "probes without an answer"

// question is what a polite client asks.
type question struct {
	address, path string
	fresh         bool          // always on a fresh connection, or else on a kept and a fresh one in turn
	timeout       time.Duration // of connecting, and of the answer
}

// probed is what polite clients have seen.
type probed struct {
	latency *hdrhistogram.Histogram // µs; one without an answer counts with the time that was waited
	failed  int
}

// probe asks until ctx ends.
func probe(ctx context.Context, q question) probed {
	p := probed{latency: hdrhistogram.New(1, int64(2*q.timeout/time.Microsecond), 3)}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range probers {
		wg.Go(func() {
			kept, fresh := &asker{question: q}, &asker{question: q}
			defer kept.close()
			for i := 0; ctx.Err() == nil; i++ {
				a := kept
				if q.fresh || i%2 == 1 {
					a = fresh
				}
				began := time.Now()
				err := a.ask()
				took := time.Since(began)
				if err != nil || a == fresh {
					a.close()
				}
				mu.Lock()
				_ = p.latency.RecordValue(took.Microseconds())
				if err != nil {
					p.failed++
				}
				mu.Unlock()
				_ = rig.Sleep(ctx, probePause)
			}
		})
	}
	wg.Wait()
	return p
}

// readings are the figures of what was seen at some time.
func (p probed) readings(when string) []reading {
	of := func(percent float64) float64 { return float64(p.latency.ValueAtPercentile(percent)) / 1000 }
	return []reading{
		{when + ": probe p50", "ms", of(50), false},
		{when + ": probe p99", "ms", of(99), false},
		{when + ": " + probesFailed, "", float64(p.failed), true},
	}
}

// asker makes one request at a time.
type asker struct {
	question
	conn net.Conn
	r    *bufio.Reader
}

func (a *asker) ask() error {
	if a.conn == nil {
		conn, err := net.DialTimeout("tcp", a.address, a.timeout)
		if err != nil {
			return err
		}
		a.conn, a.r = conn, bufio.NewReader(conn)
	}
	_ = a.conn.SetDeadline(time.Now().Add(a.timeout))
	if _, err := fmt.Fprintf(a.conn, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", a.path); err != nil {
		return err
	}
	status, err := a.r.ReadString('\n')
	if err != nil {
		return err
	}
	if !strings.HasPrefix(status, "HTTP/1.1 200 ") {
		return fmt.Errorf("answered %q", status)
	}
	length := int64(-1)
	for {
		line, err := a.r.ReadString('\n')
		if err != nil {
			return err
		}
		if line = strings.ToLower(strings.TrimSpace(line)); line == "" {
			break
		}
		if v, ok := strings.CutPrefix(line, "content-length:"); ok {
			_, _ = fmt.Sscan(v, &length)
		}
	}
	if length < 0 {
		return fmt.Errorf("an answer without a length")
	}
	_, err = io.CopyN(io.Discard, a.r, length)
	return err
}

// open reports whether the connection is there and the server has not ended it. It waits for nothing, and takes no input.
func (a *asker) open() bool {
	conn, ok := a.conn.(syscall.Conn)
	if !ok { // there is none
		return false
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return false
	}
	waiting := false
	_ = raw.Control(func(fd uintptr) {
		_, _, err := unix.Recvfrom(int(fd), make([]byte, 1), unix.MSG_PEEK|unix.MSG_DONTWAIT)
		waiting = err == unix.EAGAIN
	})
	return waiting
}

func (a *asker) close() {
	if a.conn != nil {
		_ = a.conn.Close()
		a.conn = nil
	}
}
