package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"time"

	"reuseportd/internal/loadgen"
	"reuseportd/internal/rig"
)

// bulk is four TCP streams without a pause.
func bulk(ctx context.Context, b *bench) ([]row, error) {
	cpu := newRow("TCP bulk, 4 streams of iperf3: CPU", "s/GiB")
	rate := newRow("its rate, with all of iperf3 on the same CPUs", "Gbit/s")
	rate.aside = true
	all := b.targets(func(p *proxy) string { return p.bulk })
	for _, p := range b.proxies {
		for _, t := range p.more {
			all = append(all, t)
			cpu.beside = append(cpu.beside, t.name)
		}
	}
	all = append(all, target{b.relay, b.relay.Name, b.relay.Address})
	cpu.beside = append(cpu.beside, b.relay.Name)
	err := b.interleave(ctx, "bulk", all, func(t target, d time.Duration) (func(time.Duration), error) {
		got, err := iperf(ctx, t.address, d)
		return func(used time.Duration) {
			const gib = 1 << 30
			cpu.add(t.name, used.Seconds()/(got.Bytes/gib))
			rate.add(t.name, 8*got.Bytes/got.Seconds/1e9)
		}, err
	})
	return []row{cpu, rate}, err
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

// message is how many bytes go each way on a TCP connection.
const message = 100

// connections is connect, a message each way and close, again and again.
func connections(ctx context.Context, b *bench) ([]row, error) {
	cpu := newRow(fmt.Sprintf("TCP connection, %d bytes each way: CPU", message), "µs")
	rate := newRow("its rate, with the load on the same CPUs", "/s")
	rate.aside = true
	all := b.targets(func(p *proxy) string { return p.tcp })
	err := b.interleave(ctx, "connections", all, func(t target, d time.Duration) (func(time.Duration), error) {
		done, err := closed(ctx, loadgen.Config{Connections: b.o.connections, Threads: 1, Echo: message}, t.address, d)
		return func(used time.Duration) {
			cpu.add(t.name, micro(used)/float64(done))
			rate.add(t.name, float64(done)/d.Seconds())
		}, err
	})
	return []row{cpu, rate}, err
}

// closed runs a load without a pause and returns how many requests were answered.
func closed(ctx context.Context, c loadgen.Config, address string, d time.Duration) (uint64, error) {
	r, err := put(ctx, c, address, d)
	return r.Answered, err
}

// put runs a load for a time. A request that is lost fails it.
func put(ctx context.Context, c loadgen.Config, address string, d time.Duration) (loadgen.Result, error) {
	var err error
	if c.Address, err = netip.ParseAddrPort(address); err != nil {
		return loadgen.Result{}, err
	}
	l, err := loadgen.Start(c)
	if err != nil {
		return loadgen.Result{}, err
	}
	if c.Rate > 0 {
		err = rig.Sleep(ctx, d/10) // until all connections are there
	}
	l.Record()
	if err == nil {
		err = rig.Sleep(ctx, d)
	}
	l.EndRecord()
	r := l.Stop()
	if err == nil && (r.Lost > 0 || r.Failed > 0 || r.Answered == 0) {
		err = fmt.Errorf("%d requests answered, %d lost, %d connects failed", r.Answered, r.Lost, r.Failed)
	}
	return r, err
}

// requests are HTTP requests on kept connections without a pause.
func requests(ctx context.Context, b *bench) ([]row, error) {
	cpu := newRow("HTTP request on a kept connection: CPU", "µs")
	rate := newRow("its rate, with wrk on the same CPUs", "/s")
	rate.aside = true
	wrk := rig.Wrk{Connections: b.o.connections}
	all := b.targets(func(p *proxy) string { return p.web })
	err := b.interleave(ctx, "requests", all, func(t target, d time.Duration) (func(time.Duration), error) {
		done, err := wrk.Run(ctx, "http://"+t.address+"/", d)
		return func(used time.Duration) {
			cpu.add(t.name, micro(used)/float64(done))
			rate.add(t.name, float64(done)/d.Seconds())
		}, err
	})
	return []row{cpu, rate}, err
}

func micro(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
