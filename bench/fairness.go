package main

import (
	"bufio"
	"context"
	_ "embed"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"reuseportd/internal/rig"
)

// Fairness is what a polite client gets beside one that takes all it can: a probe that makes one small request at a
// time, on a kept connection and on a fresh one in turn, while a flood of pipelined requests goes on.

//go:embed flood/flood.c
var floodSource []byte

const (
	doorFair     door = "fair"      // small, beside a flood of it
	doorFairFile door = "fair file" // static, likewise
	fairFile          = "4k"        // of files
)

// flood is how a client takes all it can get.
type flood struct {
	name        string
	door        door
	connections int
	window      int // requests that each has under way; 0 is as many as go
}

var floods = []flood{
	{"64 flooding", doorFair, 64, 0},
	{"1000 flooding", doorFair, 1000, 0},
	{"3000 flooding", doorFair, 3000, 0},
	{"1000 with 64 under way", doorFair, 1000, 64},
	{"64 flooding, file", doorFairFile, 64, 0},
	{"1000 flooding, file", doorFairFile, 1000, 0},
}

// probers is how many polite clients there are, each of which pauses for probePause between two requests.
const (
	probers      = 4
	probePause   = 10 * time.Millisecond
	probeTimeout = 10 * time.Second
)

// fairness puts each flood on a contender, and asks it politely beside that.
func fairness(ctx context.Context, b *bench, c *contender, d time.Duration) ([]reading, error) {
	binary, err := floodBinary(ctx, filepath.Dir(b.script))
	if err != nil {
		return nil, err
	}
	var all []reading
	for _, f := range floods {
		address := c.doors[f.door]
		if address == "" {
			continue
		}
		path := "/"
		if f.door == doorFairFile {
			path = "/static/" + fairFile
		}
		one, err := beside(ctx, binary, f, address, path, d)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.name, err)
		}
		all = append(all, one...)
	}
	return all, nil
}

func floodBinary(ctx context.Context, dir string) (string, error) {
	path := filepath.Join(dir, "flood")
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	if err := os.WriteFile(path+".c", floodSource, 0o644); err != nil {
		return "", err
	}
	out, err := exec.CommandContext(ctx, "gcc", "-O2", "-D_GNU_SOURCE", "-o", path, path+".c").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("compile flood.c: %w\n%s", err, out)
	}
	return path, nil
}

// beside probes a server while it is flooded.
func beside(ctx context.Context, binary string, f flood, address, path string, d time.Duration) ([]reading, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, binary, host, port, fmt.Sprint(f.connections), fmt.Sprint(f.window), path)
	var errOut strings.Builder
	cmd.Stderr = &errOut
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	ended := time.AfterFunc(60*time.Second, func() { _ = cmd.Process.Kill() })
	defer ended.Stop()
	words := bufio.NewReader(out)
	if line, err := words.ReadString('\n'); err != nil || line != "ready\n" {
		return nil, fmt.Errorf("the flood can't connect: %v %s", err, errOut.String())
	}
	if err := rig.Sleep(ctx, time.Second); err != nil { // it takes its time to be at its worst
		return nil, err
	}
	p := probe(ctx, address, path, d)
	_ = cmd.Process.Signal(syscall.SIGTERM)
	var bytes, size float64
	if _, err := fmt.Fscan(words, &bytes, &size); err != nil {
		return nil, fmt.Errorf("the flood: %w %s", err, errOut.String())
	}
	of := func(percent float64) float64 { return float64(p.latency.ValueAtPercentile(percent)) / 1000 }
	return []reading{
		{f.name + ": probe p50", "ms", of(50), false},
		{f.name + ": probe p99", "ms", of(99), false},
		{f.name + ": probes without an answer", "", float64(p.failed), true},
		{f.name + ": requests answered", "/s", bytes / size / (d + time.Second).Seconds(), true},
	}, nil
}

// probed is what polite clients have seen.
type probed struct {
	latency *hdrhistogram.Histogram // µs; one without an answer counts with the time that was waited
	failed  int
}

func probe(ctx context.Context, address, path string, d time.Duration) probed {
	p := probed{latency: hdrhistogram.New(1, int64(2*probeTimeout/time.Microsecond), 3)}
	var mu sync.Mutex
	var wg sync.WaitGroup
	end := time.Now().Add(d)
	for range probers {
		wg.Go(func() {
			kept := &asker{address: address, path: path}
			fresh := &asker{address: address, path: path}
			defer kept.close()
			for i := 0; time.Now().Before(end) && ctx.Err() == nil; i++ {
				a := kept
				if i%2 == 1 {
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

// asker makes one request at a time.
type asker struct {
	address, path string
	conn          net.Conn
	r             *bufio.Reader
}

func (a *asker) ask() error {
	if a.conn == nil {
		conn, err := net.DialTimeout("tcp", a.address, probeTimeout)
		if err != nil {
			return err
		}
		a.conn, a.r = conn, bufio.NewReader(conn)
	}
	_ = a.conn.SetDeadline(time.Now().Add(probeTimeout))
	if _, err := fmt.Fprintf(a.conn, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", a.path); err != nil {
		return err
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
	_, err := io.CopyN(io.Discard, a.r, length)
	return err
}

func (a *asker) close() {
	if a.conn != nil {
		_ = a.conn.Close()
		a.conn = nil
	}
}
