package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/google/pprof/profile"
)

// profiles takes a CPU profile of every worker that has a socket in a runtime directory, all at the same time.
func profiles(ctx context.Context, run string, d time.Duration) ([]*profile.Profile, error) {
	sockets, err := filepath.Glob(filepath.Join(run, "pprof-*.sock"))
	if err != nil || len(sockets) != workers {
		return nil, fmt.Errorf("%d sockets for profiles, want %d: %v", len(sockets), workers, err)
	}
	ps := make([]*profile.Profile, workers)
	errs := make([]error, workers)
	var wg sync.WaitGroup
	for i, socket := range sockets {
		wg.Go(func() { ps[i], errs[i] = take(ctx, socket, d) })
	}
	wg.Wait()
	return ps, errors.Join(errs...)
}

// take takes a CPU profile of the worker that listens at a socket.
func take(ctx context.Context, socket string, d time.Duration) (*profile.Profile, error) {
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}
	url := fmt.Sprintf("http://worker/debug/pprof/profile?seconds=%d", int(d.Seconds()))
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return nil, fmt.Errorf("take a profile: %w", err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, fmt.Errorf("take a profile: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("take a profile: %s: %s", resp.Status, data)
	}
	return profile.ParseData(data)
}

// sampled is the time that profiles have seen.
func sampled(ps []*profile.Profile) (sum time.Duration) {
	for _, p := range ps {
		for _, s := range p.Sample {
			sum += time.Duration(s.Value[len(s.Value)-1])
		}
	}
	return sum
}

// kernelShare divides the time in the kernel: it doesn't show what inlining the callers would
// save, and would hide the parsing.
const kernelShare = 10

func inKernel(s *profile.Sample) bool {
	if len(s.Location) == 0 || len(s.Location[0].Line) == 0 {
		return false
	}
	return strings.HasPrefix(s.Location[0].Line[0].Function.Name, "internal/runtime/syscall")
}

// writeProfile merges profiles, leaves out what the compiler doesn't read, and writes the result. It
// returns its size.
func writeProfile(path string, ps []*profile.Profile) (int, error) {
	p, err := profile.Merge(ps)
	if err != nil {
		return 0, fmt.Errorf("merge the profiles: %w", err)
	}
	// Two addresses of a line are one: the compiler knows functions and lines.
	if err := p.Aggregate(true, true, true, true, false, false); err != nil {
		return 0, fmt.Errorf("merge the profiles: %w", err)
	}
	for _, s := range p.Sample {
		s.Label, s.NumLabel, s.NumUnit = nil, nil, nil
		if inKernel(s) {
			for i := range s.Value {
				s.Value[i] /= kernelShare
			}
		}
	}
	for _, l := range p.Location {
		l.Mapping = nil
	}
	p.Mapping, p.Comments = nil, nil
	p = p.Compact() // those that have become equal
	var data bytes.Buffer
	if err := p.Write(&data); err != nil {
		return 0, err
	}
	// By a rename: `go build` must never see half of it.
	next := path + ".next"
	if err := os.WriteFile(next, data.Bytes(), 0o644); err != nil {
		return 0, err
	}
	return data.Len(), os.Rename(next, path)
}
