package shard

import (
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"reuseportd/internal/config"
)

// Policy is how the kernel chooses among the shards of a group. The zero value is the
// kernel's own hash of addresses and ports, which needs no program.
type Policy struct {
	Kind config.Steering
	CPUs []int // for SteerCPU: the CPU that the loop of each slot is pinned to
	Load *Load // for SteerLoad
}

// hash reports whether the kernel's hash chooses.
func (p Policy) hash() bool { return p.Kind == "" || p.Kind == config.SteerHash }

// indexed reports whether it matters which shard has which index.
func (p Policy) indexed() bool { return p.Kind == config.SteerCPU || p.Kind == config.SteerLoad }

// Policy returns what chooses among the group's shards.
func (g *Group) Policy() config.Steering {
	if g.policy.hash() {
		return config.SteerHash
	}
	return g.policy.Kind
}

// errUnordered is why a group can't be steered by index.
var errUnordered = errors.New("a shard that was lost with its worker and its master has been replaced, so the kernel's order is not ours until the address is bound anew")

// SetPolicy spreads new connections over the first n shards, and no others, by policy p,
// in one step. If it fails, nothing has changed.
func (g *Group) SetPolicy(p Policy, n int) error {
	if g.unordered && p.indexed() {
		return g.fail("steer", errUnordered)
	}
	old := g.policy
	g.policy = p
	var err error
	if p.hash() && n == g.listening {
		err = g.Unsteer()
	} else {
		err = g.Steer(n)
	}
	if err != nil {
		g.policy = old
	}
	return err
}

// program attaches the policy's program for the first n shards.
func (g *Group) program(n int) error {
	switch g.policy.Kind {
	case config.SteerLoad:
		fd, err := g.policy.Load.program(n)
		if err != nil {
			return err
		}
		if err := unix.SetsockoptInt(g.shards[0], unix.SOL_SOCKET, unix.SO_ATTACH_REUSEPORT_EBPF, fd); err != nil {
			return fmt.Errorf("attach eBPF program: %w", err)
		}
		return nil
	case config.SteerCPU:
		return attach(g.shards[0], unix.SO_ATTACH_REUSEPORT_CBPF, cpuProgram(g.policy.CPUs, n))
	default:
		return attach(g.shards[0], unix.SO_ATTACH_REUSEPORT_CBPF, randomProgram(n))
	}
}

// Words among the ancillary data of a classic BPF program: SKF_AD_OFF +
// SKF_AD_CPU and SKF_AD_OFF + SKF_AD_RANDOM, linux/filter.h.
const (
	cpuWord    = 0xfffff000 + 36
	randomWord = 0xfffff000 + 56
)

// randomProgram chooses any of the first n shards.
func randomProgram(n int) []unix.SockFilter {
	return []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: randomWord},
		{Code: unix.BPF_ALU | unix.BPF_MOD | unix.BPF_K, K: uint32(n)},
		{Code: unix.BPF_RET | unix.BPF_A},
	}
}

// cpuProgram chooses among the first n shards one whose slot is pinned to the CPU that
// received the packet: at random if there are several, and any shard if no slot is pinned
// to it. cpus has the CPU of each slot, whose shard is slot % n.
//
// With 1024 slots (two to a CPU) it has at most 3600 instructions; 4096 are allowed.
// Conditional jumps reach 255 instructions, so they only ever skip one; JA reaches all.
func cpuProgram(cpus []int, n int) []unix.SockFilter {
	shards := make(map[int][]int)
	var order []int // the CPUs in the order of their slots, so that the program is always the same
	for slot, cpu := range cpus {
		if _, known := shards[cpu]; !known {
			order = append(order, cpu)
		}
		if i := slot % n; !slices.Contains(shards[cpu], i) {
			shards[cpu] = append(shards[cpu], i)
		}
	}
	first := 1 + 2*len(order) + 3 // where the blocks begin
	prog := []unix.SockFilter{{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: cpuWord}}
	var blocks []unix.SockFilter
	for _, cpu := range order {
		prog = append(prog, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: uint32(cpu), Jf: 1})
		if set := shards[cpu]; len(set) > 1 {
			prog = append(prog, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JA, K: uint32(first + len(blocks) - len(prog) - 1)})
			blocks = append(blocks, anyOf(set)...)
		} else {
			prog = append(prog, unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: uint32(set[0])})
		}
	}
	return append(append(prog, randomProgram(n)...), blocks...)
}

// anyOf chooses one of the shards at random.
func anyOf(shards []int) []unix.SockFilter {
	last := len(shards) - 1
	prog := randomProgram(len(shards))[:2]
	for i, s := range shards[:last] {
		prog = append(prog,
			unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: uint32(i), Jf: 1},
			unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: uint32(s)})
	}
	return append(prog, unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: uint32(shards[last])})
}
