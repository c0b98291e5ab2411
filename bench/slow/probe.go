package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"reuseportd/internal/rig"
)

// probers is how many polite clients there are, each of which pauses for probePause between two requests and
// gives up after probeTimeout.
const (
	probers      = 4
	probePause   = 50 * time.Millisecond
	probeTimeout = 5 * time.Second
)

// probed is what polite clients have seen.
type probed struct {
	latency       *hdrhistogram.Histogram // µs; one without an answer counts with the time that was waited
	asked, failed int
	why           error // of the first that failed
}

// percentile is in milliseconds.
func (p probed) percentile(of float64) float64 {
	return float64(p.latency.ValueAtPercentile(of)) / 1000
}

// probe asks until ctx ends. The request that is under way then counts too.
func probe(ctx context.Context, address, path string) probed {
	p := probed{latency: hdrhistogram.New(1, int64(2*probeTimeout/time.Microsecond), 3)}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range probers {
		wg.Go(func() {
			kept := &http.Client{Timeout: probeTimeout, Transport: &http.Transport{}}
			fresh := &http.Client{Timeout: probeTimeout, Transport: &http.Transport{DisableKeepAlives: true}}
			defer kept.CloseIdleConnections()
			for i := 0; ctx.Err() == nil; i++ {
				client := kept
				if i%2 == 1 {
					client = fresh
				}
				began := time.Now()
				err := ask(client, "http://"+address+path)
				took := time.Since(began)
				mu.Lock()
				_ = p.latency.RecordValue(took.Microseconds())
				p.asked++
				if err != nil {
					p.failed++
				}
				if p.why == nil {
					p.why = err
				}
				mu.Unlock()
				_ = rig.Sleep(ctx, probePause)
			}
		})
	}
	wg.Wait()
	return p
}

// ask makes one request, whose answer must be 200 and whole.
func ask(client *http.Client, url string) error {
	answer, err := client.Get(url)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if _, err := io.Copy(io.Discard, answer.Body); err != nil {
		return err
	}
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("the answer was %s", answer.Status)
	}
	return nil
}
