package shard

import (
	"runtime"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"reuseportd/internal/config"
)

func TestRandomSpreads(t *testing.T) {
	for _, l := range []*config.Listener{tcp4(t), tcp6(t)} {
		g := listening(t, l, 4)
		must(t, g.SetPolicy(Policy{Kind: config.SteerRandom}, 4))
		must(t, g.check())
		for i, n := range spread(t, g, 400, nil) {
			if n < 40 {
				t.Errorf("%s: %d of 400 connections at shard %d of 4", l.Network, n, i)
			}
		}
		must(t, g.Steer(1))
		if got := spread(t, g, 20, nil); got[0] != 20 {
			t.Errorf("%s: %v, want all at the one that stays", l.Network, got)
		}
	}
}

// usable returns the CPUs that this process may use.
func usable(t *testing.T) []int {
	t.Helper()
	var set unix.CPUSet
	must(t, unix.SchedGetaffinity(0, &set))
	var cpus []int
	for i := range 1024 {
		if set.IsSet(i) {
			cpus = append(cpus, i)
		}
	}
	return cpus
}

// on runs f on a CPU: what it sends over loopback is received there.
func on(t *testing.T, cpu int, f func()) {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends
		var set unix.CPUSet
		set.Set(cpu)
		err := unix.SchedSetaffinity(0, &set)
		if err == nil {
			f()
		}
		done <- err
	}()
	must(t, <-done)
}

// connectFrom connects to the group from a CPU and returns the shard that it came to.
func connectFrom(t *testing.T, g *Group, cpu int) int {
	t.Helper()
	fd, err := unix.Socket(g.addr.family(), unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	defer unix.Close(fd)
	sa, err := g.addr.sockaddr()
	must(t, err)
	on(t, cpu, func() { err = unix.Connect(fd, sa) })
	must(t, err)
	for i := range g.Listening() {
		if queueLen(t, g, i) > 0 {
			_ = unix.Close(take(t, g, i))
			return i
		}
	}
	t.Fatal("the connection is in no queue")
	return -1
}

func TestCPUIsThePackets(t *testing.T) {
	cpus := usable(t)
	if len(cpus) < 2 {
		t.Skip("one CPU only")
	}
	a, b := cpus[0], cpus[1]
	for _, c := range []struct {
		what string
		cpus []int // by slot
		n    int
		want map[int][]int // CPU to shards
	}{
		{"a CPU each", []int{b, a}, 2, map[int][]int{a: {1}, b: {0}}},
		{"two slots to a CPU", []int{a, b, a, b}, 4, map[int][]int{a: {0, 2}, b: {1, 3}}},
		{"fewer shards than slots", []int{a, b, a, b}, 2, map[int][]int{a: {0}, b: {1}}},
		{"a CPU without a slot", []int{a, a, a}, 3, map[int][]int{a: {0, 1, 2}, b: {0, 1, 2}}},
		{"a slot alone and two together", []int{a, a, b}, 3, map[int][]int{a: {0, 1}, b: {2}}},
	} {
		for _, l := range []*config.Listener{tcp4(t), tcp6(t)} {
			g := listening(t, l, c.n)
			must(t, g.SetPolicy(Policy{Kind: config.SteerCPU, CPUs: c.cpus}, c.n))
			for cpu, want := range c.want {
				got := make(map[int]bool)
				for range 32 {
					i := connectFrom(t, g, cpu)
					got[i] = true
					if !slices.Contains(want, i) {
						t.Errorf("%s, %s: from CPU %d to shard %d, want %v", l.Network, c.what, cpu, i, want)
					}
				}
				if len(got) != len(want) {
					t.Errorf("%s, %s: from CPU %d to %v, want all of %v", l.Network, c.what, cpu, got, want)
				}
			}
		}
	}
}

// run has a program choose; it knows what cpuProgram uses.
func run(t *testing.T, prog []unix.SockFilter, cpu, random uint32) uint32 {
	t.Helper()
	var a uint32
	for pc := 0; ; pc++ {
		switch in := prog[pc]; in.Code {
		case unix.BPF_LD | unix.BPF_W | unix.BPF_ABS:
			a = map[uint32]uint32{cpuWord: cpu, randomWord: random}[in.K]
		case unix.BPF_ALU | unix.BPF_MOD | unix.BPF_K:
			a %= in.K
		case unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K:
			if a == in.K {
				pc += int(in.Jt)
			} else {
				pc += int(in.Jf)
			}
		case unix.BPF_JMP | unix.BPF_JA:
			pc += int(in.K)
		case unix.BPF_RET | unix.BPF_K:
			return in.K
		case unix.BPF_RET | unix.BPF_A:
			return a
		default:
			t.Fatalf("instruction %d: %+v", pc, in)
		}
	}
}

// The program fits, and chooses rightly, however 1024 slots are spread over CPUs.
func TestCPUProgramOf1024Slots(t *testing.T) {
	if testing.Short() {
		t.Skip("asks the kernel of a thousand slots, 18 times")
	}
	g := listening(t, tcp4(t), 1)
	for _, count := range []int{1, 2, 341, 512, 600, 1024} {
		for _, n := range []int{1, 700, 1024} {
			cpus := make([]int, 1024)
			of := make(map[int][]uint32)
			for slot := range cpus {
				cpus[slot] = slot % count
				of[cpus[slot]] = append(of[cpus[slot]], uint32(slot%n))
			}
			prog := cpuProgram(cpus, n)
			if len(prog) > 4096 {
				t.Errorf("%d CPUs, %d shards: %d instructions", count, n, len(prog))
			}
			must(t, attach(g.FD(0), unix.SO_ATTACH_REUSEPORT_CBPF, prog))
			for cpu := 0; cpu < count; cpu += 7 {
				got := make(map[uint32]bool)
				for r := range uint32(1024) {
					i := run(t, prog, uint32(cpu), r)
					got[i] = true
					if !slices.Contains(of[cpu], i) {
						t.Fatalf("%d CPUs, %d shards: CPU %d to shard %d", count, n, cpu, i)
					}
				}
				for _, want := range of[cpu] {
					if !got[want] {
						t.Fatalf("%d CPUs, %d shards: CPU %d never to shard %d", count, n, cpu, want)
					}
				}
			}
			if got := run(t, prog, 5000, uint32(n+1)); got != uint32(1%n) {
				t.Errorf("%d CPUs, %d shards: no CPU to shard %d", count, n, got)
			}
		}
	}
}

// A policy is changed in one step, in any direction, and a change that fails leaves
// what there was.
func TestSetPolicy(t *testing.T) {
	g := listening(t, tcp4(t), 3)
	expectPolicy := func(want config.Steering, steered int) {
		t.Helper()
		if g.Policy() != want || g.Steered() != steered {
			t.Errorf("%s over %d, want %s over %d", g.Policy(), g.Steered(), want, steered)
		}
	}
	expectPolicy(config.SteerHash, 0)
	must(t, g.SetPolicy(Policy{Kind: config.SteerRandom}, 2))
	expectPolicy(config.SteerRandom, 2)
	if err := g.SetPolicy(Policy{}, 4); err == nil {
		t.Error("4 shards of 3")
	}
	expectPolicy(config.SteerRandom, 2)
	if got := spread(t, g, 40, nil); got[2] != 0 {
		t.Errorf("%v, want none at shard 2", got)
	}
	must(t, g.SetPolicy(Policy{}, 1))
	expectPolicy(config.SteerHash, 1)
	must(t, g.SetPolicy(Policy{}, 3))
	expectPolicy(config.SteerHash, 0)
	err := unix.SetsockoptInt(g.FD(0), unix.SOL_SOCKET, unix.SO_DETACH_REUSEPORT_BPF, 0)
	if err != unix.ENOENT {
		t.Errorf("a program is attached: %v", err)
	}
	g.MarkUnordered()
	if err := g.SetPolicy(Policy{Kind: config.SteerCPU, CPUs: []int{0, 0, 0}}, 3); err == nil {
		t.Error("a group whose order isn't known is steered by index")
	}
	must(t, g.SetPolicy(Policy{Kind: config.SteerRandom}, 3))
}
