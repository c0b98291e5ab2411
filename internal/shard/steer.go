package shard

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Steer sends new connections to the first n shards and to no other: the first
// step of retiring those from n on. It replaces an earlier steering at once.
//
// The program is classic BPF, which needs no privilege (socket(7),
// SO_ATTACH_REUSEPORT_CBPF). It chooses at random, as it is asked only when
// the kernel must pick a listening socket: for a SYN, and for the last ACK of
// a handshake by SYN cookie, whose secret all sockets share, so that any
// socket may take it. Every other segment belongs to a socket or a request that is
// found by its four-tuple. Choosing by hash would need to read addresses, and
// the data that the program sees begins behind the TCP header.
func (g *Group) Steer(n int) error {
	if n < 1 || n > g.listening {
		return g.fail("steer", fmt.Errorf("to %d of %d shards", n, g.listening))
	}
	if g.addr.unix() {
		g.steered = n // there is only the one
		return nil
	}
	return g.steerBy(n, []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: randomWord},
		{Code: unix.BPF_ALU | unix.BPF_MOD | unix.BPF_K, K: uint32(n)},
		{Code: unix.BPF_RET | unix.BPF_A},
	})
}

// randomWord is the offset of a random 32-bit word among the ancillary data of
// a classic BPF program: SKF_AD_OFF + SKF_AD_RANDOM, linux/filter.h.
const randomWord = 0xfffff000 + 56

func (g *Group) steerBy(n int, program []unix.SockFilter) error {
	if err := attach(g.shards[0], unix.SO_ATTACH_REUSEPORT_CBPF, program); err != nil {
		return g.fail("steer", err)
	}
	g.steered = n
	return nil
}

// Unsteer gives the choice back to the kernel's hash over all shards that
// listen. A new master calls it too, once every shard is served: a steering
// program belongs to the group and outlives the process that attached it.
func (g *Group) Unsteer() error {
	if g.addr.unix() || g.listening == 0 {
		g.steered = 0
		return nil
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
