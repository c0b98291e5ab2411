package shard

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"reuseportd/internal/config"
)

// TestTuningIsInherited: what a listener's service asks for, its connections have, and
// others after a reload that asks for something else. Back from keepalive's own times
// the machine's hold again.
func TestTuningIsInherited(t *testing.T) {
	for _, l := range []*config.Listener{tcp4(t), tcp6(t)} {
		l.HTTP = &config.HTTP{}
		g := listening(t, l, 2)
		machine := optionsOf(t, acceptOne(t, g))
		if machine[unix.TCP_NODELAY] != 1 || machine[unix.SO_KEEPALIVE] != 1 || machine[unix.TCP_KEEPIDLE] == 33 {
			t.Errorf("%s: http has %v", l.Network, machine)
		}
		l.HTTP, l.TCP = nil, &config.TCP{Keepalive: &config.Keepalive{Idle: 33 * time.Second, Interval: 7 * time.Second, Count: 5}}
		must(t, g.Update(l))
		got := optionsOf(t, acceptOne(t, g))
		if got[unix.TCP_NODELAY] != 0 || got[unix.SO_KEEPALIVE] != 1 || got[unix.TCP_KEEPIDLE] != 33 ||
			got[unix.TCP_KEEPINTVL] != 7 || got[unix.TCP_KEEPCNT] != 5 {
			t.Errorf("%s: tcp has %v", l.Network, got)
		}
		must(t, g.Bind(3)) // a shard that comes later has them too
		if got := optionsOf(t, g.FD(2)); got[unix.TCP_KEEPIDLE] != 33 || got[unix.TCP_NODELAY] != 0 {
			t.Errorf("%s: a later shard has %v", l.Network, got)
		}
		l.TCP = &config.TCP{NoDelay: true}
		must(t, g.Update(l))
		if got := optionsOf(t, acceptOne(t, g)); got[unix.TCP_NODELAY] != 1 || got[unix.SO_KEEPALIVE] != 0 {
			t.Errorf("%s: tcp with keepalive: off has %v", l.Network, got)
		}
		l.TCP, l.Echo = nil, &config.Echo{}
		must(t, g.Update(l))
		for opt, value := range optionsOf(t, acceptOne(t, g)) {
			if value != machine[opt] {
				t.Errorf("%s: option %d is %d, was %d", l.Network, opt, value, machine[opt])
			}
		}
	}
}

// TestUnixSocketIsNotTuned: a service's TCP options are no error on a Unix socket.
func TestUnixSocketIsNotTuned(t *testing.T) {
	l := unixListener(t)
	l.TCP = &config.TCP{NoDelay: true, Keepalive: &config.Keepalive{Idle: time.Second, Interval: time.Second, Count: 1}}
	g := listening(t, l, 1)
	l.TCP = &config.TCP{}
	must(t, g.Update(l))
}

// acceptOne returns a connection that was accepted from whichever shard has it.
func acceptOne(t *testing.T, g *Group) int {
	t.Helper()
	dial(t, g)
	for {
		for i := range g.Listening() {
			if n, err := g.QueueLen(i); err == nil && n > 0 {
				return accept(t, g, i)
			}
		}
	}
}

func optionsOf(t *testing.T, fd int) map[int]int {
	t.Helper()
	all := map[int]int{}
	for _, o := range append(tuning{}.inherited(), keepaliveOptions(0, 0, 0)...) {
		value, err := unix.GetsockoptInt(fd, o.level, o.opt)
		must(t, err)
		all[o.opt] = value
	}
	return all
}
