package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

// connections is how many a load has that doesn't set a number.
const connections = 64

// load is one kind of traffic, and what is measured of it.
type load struct {
	name, title string
	doors       []door // whoever has one of them takes part
	reloads     bool   // …and can reload
	// once puts the load on a contender for a time. What it reads is one round.
	once func(ctx context.Context, b *bench, c *contender, d time.Duration) ([]reading, error)
	// prepare, if there is one, is called once before the rounds, with the servers started. It leaves out servers
	// that fail.
	prepare func(ctx context.Context, b *bench, r *result) error
	// finish, if there is one, adds figures that are computed from others.
	finish func(*result)
	cold   bool // no round to warm up
	apart  bool // only where it is named
	// A round of one contender takes so many durations, and so much beside.
	times int
	extra time.Duration
}

// reading is one figure of one round.
type reading struct {
	figure, unit string
	value        float64
	aside        bool // it explains other figures; no ratio is made of it
}

// loads are in the order in which they run and are printed.
var loads = []load{
	{name: "kept", title: "Small requests on 64 kept connections", doors: []door{doorSmall}, once: kept, times: 1},
	{name: "pipelined", title: "Small requests, 16 at once, on 64 kept connections", doors: []door{doorPipelined}, once: pipelined, times: 1},
	{name: "churn", title: "Small requests, a connection for each, 64 at a time", doors: []door{doorChurn}, once: churn, times: 1},
	{name: "static", title: "Files on 64 kept connections", doors: []door{doorStatic}, once: static, times: len(files)},
	{name: "idle", title: "Small requests on 100 kept connections beside 10 000 idle ones", doors: []door{doorIdle}, once: besideIdle, cold: true, times: 1, extra: 2 * time.Second},
	{name: "memory", title: "Private memory of what is idle", doors: []door{doorIdle, doorTCP}, once: memory, cold: true, extra: 2 * time.Second},
	{name: "latency", title: "Latency of small requests at half of saturation, on 64 kept connections", doors: []door{doorSmall}, once: latency(smallFlow), prepare: saturate(smallFlow), times: 1, extra: time.Second / 4},
	{name: "proxied", title: "Requests passed on, on 64 kept connections", doors: []door{doorProxied}, once: proxied, times: 1},
	{name: "proxied-latency", title: "Latency of requests passed on at half of saturation, on 64 kept connections", doors: []door{doorProxied}, once: latency(proxiedFlow), prepare: saturate(proxiedFlow), finish: added, times: 1, extra: time.Second / 4},
	{name: "bulk", title: "TCP passed on, 4 streams of iperf3", doors: []door{doorBulk}, once: bulk, cold: true, times: 1},
	{name: "tcp", title: "TCP passed on to an echo, 100 bytes each way, 64 connections", doors: []door{doorTCP}, once: tcp, times: 2},
	{name: "tcp-latency", title: "Latency of an echo of 100 bytes behind a TCP proxy at half of saturation, on 64 kept connections", doors: []door{doorTCP}, once: latency(echoFlow), prepare: saturate(echoFlow), finish: added, times: 1, extra: time.Second / 4},
	{name: "tls", title: "Requests over TLS 1.3, ECDSA P-256", doors: []door{doorTLS}, once: encrypted, times: 3},
	reloadLoad("reload", "small requests", smallFlow),
	reloadLoad("reload-fresh", "small requests on a connection each", freshFlow),
	reloadLoad("reload-proxied", "requests passed on", proxiedFlow),
	reloadLoad("reload-tcp", "an echo of 100 bytes behind a TCP proxy", echoFlow),
	{name: "fairness", title: "A polite client beside one that floods", doors: []door{doorFair, doorFairFile}, once: fairness, cold: true, times: len(floods), extra: time.Duration(len(floods)) * time.Second},
	{name: "lockout", title: "A polite client beside 6000 connections that fall silent, with 2000 descriptors for each process", doors: []door{doorLockout}, once: lockout(silent), cold: true, times: 1, extra: 8 * time.Second},
	{name: "scaling", title: "Small requests on more connections, and with another loop", doors: []door{doorScaling}, once: scaling, cold: true, times: len(growing), extra: time.Second},
	{name: "abreast", title: "Small requests to two servers at the same time", doors: []door{doorSmall}, once: abreast, times: len(sides), apart: true},
	{name: "models", title: "Small requests to two processes and to two threads", doors: []door{doorModels}, once: models, cold: true, times: 2},
}

// reloadLoad is a load during which all contenders that can do so reload once a second.
func reloadLoad(name, under string, f flow) load {
	return load{
		name: name, title: "Reloads, one a second, under " + under + " at half of saturation", doors: []door{f.door}, reloads: true,
		once: reloading(f), prepare: saturate(f), cold: true, times: 1, extra: reloads * time.Second,
	}
}

func names() []string {
	var all []string
	for _, l := range loads {
		all = append(all, l.name)
	}
	return all
}

// choose returns the loads whose names are in a list, or, if it is empty, all that aren't
// apart.
func choose(list string) ([]load, error) {
	if list == "" {
		return slices.DeleteFunc(slices.Clone(loads), func(l load) bool { return l.apart }), nil
	}
	var chosen []load
	for name := range strings.SplitSeq(list, ",") {
		i := slices.IndexFunc(loads, func(l load) bool { return l.name == strings.TrimSpace(name) })
		if i < 0 {
			return nil, fmt.Errorf("-only %s: there is no load %q: choose from %s", list, name, strings.Join(names(), ", "))
		}
		chosen = append(chosen, loads[i])
	}
	return chosen, nil
}

// takers returns the contenders that take part.
func (l load) takers(all []*contender) []*contender {
	return slices.DeleteFunc(slices.Clone(all), func(c *contender) bool {
		// The direct way is there to be subtracted, which is done with latencies only.
		if c.Name == direct && l.finish == nil {
			return true
		}
		if l.reloads && c.reload == nil {
			return true
		}
		return !slices.ContainsFunc(l.doors, func(d door) bool { return c.doors[d] != "" })
	})
}

// estimate returns about how long a load takes.
func (l load) estimate(o options, contenders int) time.Duration {
	one := time.Duration(l.times)*o.duration + l.extra + 300*time.Millisecond // with what it takes to begin and end
	all := time.Duration(o.rounds) * one
	if l.prepare != nil {
		all += 3 * o.duration
	}
	if !l.cold {
		all += time.Duration(l.times)*warmUp + l.extra
	}
	return time.Duration(contenders) * (all + 200*time.Millisecond)
}
