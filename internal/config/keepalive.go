package config

import (
	"fmt"
	"time"

	"reuseportd/internal/config/yaml"
)

// Keepalive is TCP's own: TCP_KEEPIDLE, TCP_KEEPINTVL and TCP_KEEPCNT, tcp(7).
type Keepalive struct {
	Idle, Interval time.Duration // whole seconds
	Count          int
}

// The bounds are the kernel's: MAX_TCP_KEEPIDLE, MAX_TCP_KEEPINTVL and MAX_TCP_KEEPCNT.
var keepaliveObject = object[Keepalive]{at: "listeners[].tcp.keepalive", what: "keepalive", fields: []field[Keepalive]{
	{"idle", secondsInto(32767, func(k *Keepalive) *time.Duration { return &k.Idle })},
	{"interval", secondsInto(32767, func(k *Keepalive) *time.Duration { return &k.Interval })},
	{"count", intInto(1, 127, func(k *Keepalive) *int { return &k.Count })},
}}

func defaultKeepalive() *Keepalive {
	return &Keepalive{Idle: 60 * time.Second, Interval: 10 * time.Second, Count: 6}
}

// readKeepalive reads off, or the keys of an object.
func readKeepalive(d *decoder, n *yaml.Node, t *TCP) {
	switch {
	case n.Kind == yaml.Text && n.Text == "off", n.Kind == yaml.Bool && n.Text == "off":
		t.Keepalive = nil
	case n.Kind == yaml.Mapping || n.Kind == yaml.Null:
		t.Keepalive = defaultKeepalive()
		keepaliveObject.read(d, n, t.Keepalive)
	default:
		hint := "as in {idle: 60s, interval: 10s, count: 6}"
		if n.Kind == yaml.Bool {
			hint = "write off, or leave the key out for the default"
		}
		d.wrong(n, hint, "off, or idle, interval and count")
	}
}

// secondsInto reads a duration that the kernel takes in seconds.
func secondsInto[T any](most int, at func(*T) *time.Duration) func(*decoder, *yaml.Node, *T) {
	whole := durationInto(time.Second, func(v *time.Duration) *time.Duration { return v })
	return func(d *decoder, n *yaml.Node, into *T) {
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
