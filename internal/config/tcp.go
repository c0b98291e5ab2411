package config

import (
	"fmt"
	"time"
)

var tcpObject = object[TCP]{at: "listeners[].tcp", what: "tcp", fields: []field[TCP]{
	{"upstream", func(d *decoder, n *node, t *TCP) { t.Upstream = d.use(n, false) }},
	{"idle_timeout", durationInto(0, func(t *TCP) *time.Duration { return &t.IdleTimeout })},
	{"total_timeout", durationInto(0, func(t *TCP) *time.Duration { return &t.TotalTimeout })},
	{"accept_proxy", boolInto(func(t *TCP) *bool { return &t.AcceptProxy })},
	{"nodelay", boolInto(func(t *TCP) *bool { return &t.NoDelay })},
	{"keepalive", readKeepalive},
}}

// The bounds are the kernel's: MAX_TCP_KEEPIDLE, MAX_TCP_KEEPINTVL and MAX_TCP_KEEPCNT.
var keepaliveObject = object[Keepalive]{at: "listeners[].tcp.keepalive", what: "keepalive", fields: []field[Keepalive]{
	{"idle", secondsInto(32767, func(k *Keepalive) *time.Duration { return &k.Idle })},
	{"interval", secondsInto(32767, func(k *Keepalive) *time.Duration { return &k.Interval })},
	{"count", intInto(1, 127, func(k *Keepalive) *int { return &k.Count })},
}}

func defaultKeepalive() *Keepalive {
	return &Keepalive{Idle: 60 * time.Second, Interval: 10 * time.Second, Count: 6}
}

// tcp reads a tcp service; it never returns nil.
func (d *decoder) tcp(n *node) *TCP {
	t := &TCP{IdleTimeout: time.Hour, NoDelay: true, Keepalive: defaultKeepalive()}
	if g := tcpObject.read(d, n, t); g != nil && !g.has("upstream") {
		d.missing(g, n.pos, "add upstream: and the name of one", "tcp without upstream")
	}
	return t
}

// readKeepalive reads off, or the keys of an object.
func readKeepalive(d *decoder, n *node, t *TCP) {
	switch {
	case n.kind == text && n.text == "off", n.kind == boolean && n.text == "off":
		t.Keepalive = nil
	case n.kind == mapping || n.kind == null:
		t.Keepalive = defaultKeepalive()
		keepaliveObject.read(d, n, t.Keepalive)
	default:
		hint := "as in {idle: 60s, interval: 10s, count: 6}"
		if n.kind == boolean {
			hint = "write off, or leave the key out for the default"
		}
		d.wrong(n, hint, "off, or idle, interval and count")
	}
}

// secondsInto reads a duration that the kernel takes in seconds.
func secondsInto[T any](most int, at func(*T) *time.Duration) func(*decoder, *node, *T) {
	whole := durationInto(time.Second, func(v *time.Duration) *time.Duration { return v })
	return func(d *decoder, n *node, into *T) {
		var v time.Duration
		whole(d, n, &v)
		switch {
		case v > time.Duration(most)*time.Second:
			d.wrong(n, "", fmt.Sprintf("from 1s to %ds", most))
		case v%time.Second != 0:
			d.wrong(n, "the kernel counts it in seconds", "whole seconds")
		case v > 0:
			*at(into) = v
		}
	}
}
