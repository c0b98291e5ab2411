package main

import (
	"context"
	"fmt"
	"math"
	"os"
	"time"

	"reuseportd/internal/loadgen"
	"reuseportd/internal/rig"
)

// direct is the name of the way without a proxy.
const direct = "direct"

// latency gives what the proxies add to the latency of requests on kept connections,
// at half of the rate that the slowest of them can do. A request's latency counts
// from when it was due.
func latency(ctx context.Context, b *bench) ([]row, error) {
	http, err := b.added(ctx, "HTTP request", 0, b.behind.web, b.behind.http, func(p *proxy) string { return p.web })
	if err != nil {
		return nil, err
	}
	tcp, err := b.added(ctx, fmt.Sprintf("TCP echo of %d bytes", message), message, b.behind.web, b.behind.echo(),
		func(p *proxy) string { return p.tcp })
	return append(http, tcp...), err
}

// added measures one protocol: echo is loadgen's.
func (b *bench) added(ctx context.Context, name string, echo int, server *rig.Server, address string, of func(*proxy) string) ([]row, error) {
	c := loadgen.Config{Connections: b.o.connections, Threads: 1, Kept: true, Echo: echo}
	proxied := b.targets(of)
	lowest := math.Inf(1)
	for _, t := range proxied {
		fmt.Fprintf(os.Stderr, "bench-proxy: %s, what %s can do\n", name, t.name)
		done, err := closed(ctx, c, t.address, b.o.duration)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", t.name, err)
		}
		lowest = min(lowest, float64(done)/b.o.duration.Seconds())
	}
	c.Rate = lowest / 2
	p50, p99, late := newRow("", "µs"), newRow("", "µs"), newRow("", "µs")
	all := append(proxied, target{server, direct, address})
	err := b.interleave(ctx, name+", latency", all, func(t target, d time.Duration) (func(time.Duration), error) {
		r, err := put(ctx, c, t.address, d)
		return func(time.Duration) {
			p50.add(t.name, micro(time.Duration(r.Latency.ValueAtPercentile(50))))
			p99.add(t.name, micro(time.Duration(r.Latency.ValueAtPercentile(99))))
			late.add(t.name, micro(time.Duration(r.Late.ValueAtPercentile(99))))
		}, err
	})
	rate := fmt.Sprintf("%s, %.0f a second on %d kept connections: ", name, c.Rate, c.Connections)
	late.name, late.aside = "the load's own delay in it, p99", true
	return []row{
		p50.over(direct, rate+"added to p50"),
		p99.over(direct, rate+"added to p99"),
		late,
	}, err
}

// over is what a row's values are above those of one name in the same round, which
// stands beside.
func (r row) over(base, name string) row {
	sum := newRow(name, r.unit)
	for who, values := range r.values {
		for i, v := range values {
			if who != base {
				v -= r.values[base][i]
			}
			sum.add(who, v)
		}
	}
	sum.beside = []string{base}
	return sum
}
