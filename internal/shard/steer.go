package shard

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Steer makes new connections go to the first n shards only, by the group's policy: the
// first step of retiring those from n on. It replaces an earlier steering at once.
//
// If the policy is the kernel's hash, the program chooses at random. The kernel runs it
// only when it must pick a listening socket: for a SYN, and for the last ACK of a
// handshake by SYN cookie, whose secret all sockets share, so that any socket may take
// it. Every other segment belongs to a socket or a request that is found by its
// four-tuple. The program can't choose by a hash of the addresses, since the data that it
// sees begins after the TCP header.
//
// All but SteerLoad's are classic BPF, which needs no privilege (socket(7),
// SO_ATTACH_REUSEPORT_CBPF).
func (g *Group) Steer(n int) error {
	if n < 1 || n > g.listening {
		return g.fail("steer", fmt.Errorf("to %d of %d shards", n, g.listening))
	}
	if !g.addr.unix() { // a Unix socket has one shard
		if err := g.program(n); err != nil {
			return g.fail("steer", err)
		}
	}
	g.steered = n
	return nil
}

// Unsteer spreads new connections over all shards that listen, by the group's policy: for
// the kernel's hash it detaches the program, even one that another master has attached,
// since a program belongs to the group and outlives its process.
func (g *Group) Unsteer() error {
	if g.addr.unix() || g.listening == 0 {
		g.steered = 0
		return nil
	}
	if !g.policy.hash() {
		return g.Steer(g.listening)
	}
	err := unix.SetsockoptInt(g.shards[0], unix.SOL_SOCKET, unix.SO_DETACH_REUSEPORT_BPF, 0)
	if err != nil && !errors.Is(err, unix.ENOENT) { // ENOENT: none is attached
		return g.fail("unsteer", err)
	}
	g.steered = 0
	return nil
}

// attach attaches a classic BPF program to a socket or its group.
func attach(fd, opt int, program []unix.SockFilter) error {
	prog := unix.SockFprog{Len: uint16(len(program)), Filter: unsafe.SliceData(program)}
	if err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, opt, &prog); err != nil {
		return fmt.Errorf("attach BPF program: %w", err)
	}
	return nil
}
