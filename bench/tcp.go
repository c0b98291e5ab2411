package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"time"

	"reuseportd/internal/loadgen"
)

// message is how many bytes go each way.
const message = 100

// tcp is a message each way again and again on kept connections, and then connect, a message each way and close.
func tcp(ctx context.Context, _ *bench, c *contender, d time.Duration) ([]reading, error) {
	var all []reading
	for _, l := range []struct {
		what   string
		config loadgen.Config
	}{
		{"message", echoFlow.at(0)},
		{"connection", flow{door: doorTCP, echo: message, fresh: true}.at(0)},
	} {
		one, err := byLoadgen(ctx, c, l.config, doorTCP, l.what, d)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", l.what, err)
		}
		all = append(all, one...)
	}
	return all, nil
}

const cpuOfGiB = "GiB: CPU"

// bulk is TCP streams without a pause.
func bulk(ctx context.Context, _ *bench, c *contender, d time.Duration) ([]reading, error) {
	cpu, switches := c.CPU(), c.Switches()
	got, err := iperf(ctx, c.doors[doorBulk], d)
	if err != nil {
		return nil, err
	}
	gib := got.Bytes / (1 << 30)
	return []reading{
		{cpuOfGiB, "s", (c.CPU() - cpu).Seconds() / gib, false},
		{"rate, with all of iperf3 on the same CPUs", "Gbit/s", 8 * got.Bytes / got.Seconds / 1e9, true},
		{"GiB: context switches", "", float64(c.Switches()-switches) / gib, true},
	}, nil
}

// received is what iperf3's server got.
type received struct {
	Bytes   float64 `json:"bytes"`
	Seconds float64 `json:"seconds"`
}

func iperf(ctx context.Context, address string, d time.Duration) (received, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return received{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, d+20*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, "iperf3", "-c", host, "-p", port, "-P", "4",
		"-t", fmt.Sprint(max(1, int(d.Seconds()))), "-J").Output()
	if got, parseErr := parseIperf(out); err == nil || parseErr != nil && len(out) > 0 {
		return got, parseErr
	}
	return received{}, fmt.Errorf("iperf3: %w", err)
}

// parseIperf reads the JSON that iperf3 prints, where errors are, too.
func parseIperf(out []byte) (received, error) {
	var report struct {
		Error string
		End   struct {
			Received received `json:"sum_received"`
		}
	}
	if err := json.Unmarshal(out, &report); err != nil {
		return received{}, fmt.Errorf("iperf3: %w", err)
	}
	got := report.End.Received
	switch {
	case report.Error != "":
		return received{}, fmt.Errorf("iperf3: %s", report.Error)
	case got.Bytes <= 0 || got.Seconds <= 0:
		return received{}, errors.New("iperf3: nothing was received")
	}
	return got, nil
}
