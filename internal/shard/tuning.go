package shard

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"reuseportd/internal/config"
)

// tuning is the options of a listener's TCP sockets that a reload may change. All but
// deferred are meant for the accepted connections, which inherit them on Linux (tcp(7))
// and so need no system call of their own.
type tuning struct {
	deferred           bool // TCP_DEFER_ACCEPT
	share              bool
	nodelay, keepalive bool
	// idle and interval are seconds. They and count are 0 if the machine's defaults apply.
	idle, interval, count int
}

// tuningOf returns what a listener's service asks for. Only tcp can be configured; the
// fixed values are right for the other services, since they write whole answers.
func tuningOf(l *config.Listener) tuning {
	t := tuning{deferred: l.DeferAccept, share: l.Share, nodelay: true, keepalive: true}
	if l.TCP == nil {
		return t
	}
	t.nodelay, t.keepalive = l.TCP.NoDelay, l.TCP.Keepalive != nil
	if k := l.TCP.Keepalive; k != nil {
		t.idle, t.interval, t.count = int(k.Idle/time.Second), int(k.Interval/time.Second), k.Count
	}
	return t
}

// apply sets the options of a socket. A deferred listener waits one second for a
// connection's first bytes, the least that tcp(7) offers.
func (t tuning) apply(fd int) error {
	deferred := []option{{"TCP_DEFER_ACCEPT", unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT, number(t.deferred)}}
	// This mark shows another service that this one shares its address. It has no other effect on a
	// socket that is bound (ip(7)).
	mark := option{"IP_BIND_ADDRESS_NO_PORT", unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, number(!t.share)}
	return setAll(fd, append(append(deferred, mark), t.inherited()...))
}

func (t tuning) inherited() []option {
	options := []option{
		{"SO_KEEPALIVE", unix.SOL_SOCKET, unix.SO_KEEPALIVE, number(t.keepalive)},
		{"TCP_NODELAY", unix.IPPROTO_TCP, unix.TCP_NODELAY, number(t.nodelay)},
	}
	if t.count > 0 {
		options = append(options, keepaliveOptions(t.idle, t.interval, t.count)...)
	}
	return options
}

func keepaliveOptions(idle, interval, count int) []option {
	return []option{
		{"TCP_KEEPIDLE", unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, idle},
		{"TCP_KEEPINTVL", unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, interval},
		{"TCP_KEEPCNT", unix.IPPROTO_TCP, unix.TCP_KEEPCNT, count},
	}
}

// retune sets the options of sockets that had others before. A time that was set can't be
// unset, but a fresh socket shows the machine's default.
func (t tuning) retune(fds []int) error {
	if t.count == 0 && len(fds) > 0 {
		fresh, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if errors.Is(err, unix.EAFNOSUPPORT) {
			fresh, err = unix.Socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		}
		if err != nil {
			return fmt.Errorf("socket: %w", err)
		}
		defer unix.Close(fresh)
		for i, into := range []*int{&t.idle, &t.interval, &t.count} {
			o := keepaliveOptions(0, 0, 0)[i]
			if *into, err = unix.GetsockoptInt(fresh, o.level, o.opt); err != nil {
				return fmt.Errorf("getsockopt %s: %w", o.name, err)
			}
		}
	}
	for _, fd := range fds {
		if err := t.apply(fd); err != nil {
			return err
		}
	}
	return nil
}

func number(on bool) int {
	if on {
		return 1
	}
	return 0
}

// option is one integer socket option.
type option struct {
	name       string
	level, opt int
	value      int
}

func setAll(fd int, options []option) error {
	for _, o := range options {
		if err := unix.SetsockoptInt(fd, o.level, o.opt, o.value); err != nil {
			return fmt.Errorf("setsockopt %s: %w", o.name, err)
		}
	}
	return nil
}
