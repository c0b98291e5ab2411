package shard

import (
	"errors"

	"golang.org/x/sys/unix"
)

// QueueLen returns the number of connections that wait in the accept queue of shard i.
// For TCP it is tcpi_unacked of TCP_INFO, which for a listening socket means the accept
// queue (net/ipv4/tcp.c, tcp_get_info). For a Unix socket the kernel tells the number
// only through netlink, but poll(2) tells whether there is any, so QueueLen is 0 or 1
// there.
//
// Handshakes under way are not counted, see HalfOpen.
func (g *Group) QueueLen(i int) (int, error) {
	var n int
	var err error
	if g.addr.unix() {
		n, err = readable(g.shards[i])
	} else {
		n, err = acceptQueue(g.shards[i])
	}
	if err != nil {
		return 0, g.fail("queue length of", err)
	}
	return n, nil
}

func acceptQueue(fd int) (int, error) {
	info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil {
		return 0, err
	}
	return int(info.Unacked), nil
}

func readable(fd int) (int, error) {
	p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	for {
		_, err := unix.Poll(p, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return 0, err
		}
		return int(p[0].Revents & unix.POLLIN), nil
	}
}
