package main

import (
	"bufio"
	"context"
	_ "embed"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

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

// flood describes a client that takes all it can get.
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

// fairness puts each flood on a contender, while a polite client makes requests.
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
	probing, stop := context.WithTimeout(ctx, d)
	defer stop()
	p := probe(probing, question{address: address, path: path, timeout: probeTimeout})
	_ = cmd.Process.Signal(syscall.SIGTERM)
	var bytes, size float64
	if _, err := fmt.Fscan(words, &bytes, &size); err != nil {
		return nil, fmt.Errorf("the flood: %w %s", err, errOut.String())
	}
	return append(p.readings(f.name),
		reading{f.name + ": requests answered", "/s", bytes / size / (d + time.Second).Seconds(), true}), nil
}
