//go:build amd64 || arm64

package sandbox

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Filter allows all threads of the process, and those to come, only the system calls that a
// worker makes: seccomp(2). It can't be taken back.
//
// A call that isn't known to be needed fails with ENOSYS, and libc and Go do without it. A call
// that an attacker would begin with ends the process (SIGSYS). The lists are in calls.go. The
// program is assembled here from constants: a library with tables of names, such as
// go-seccomp-bpf, costs each start of a worker more than the rest of the sandbox.
func Filter() error {
	insns := program(os.Getpid())
	prog := unix.SockFprog{Len: uint16(len(insns)), Filter: &insns[0]}
	// Without SPEC_ALLOW, kernels before 5.16 turn on a mitigation that slows each indirect branch
	// of the process.
	const flags = unix.SECCOMP_FILTER_FLAG_TSYNC | unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW
	n, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags, uintptr(unsafe.Pointer(&prog)))
	switch {
	case errno != 0:
		return fmt.Errorf("install the filter of system calls (seccomp): %w", errno)
	case n != 0:
		return fmt.Errorf("install the filter of system calls (seccomp): thread %d can't be filtered", n)
	}
	return nil
}

// The offsets in struct seccomp_data; both architectures are little-endian, so the low word of
// an argument comes first.
const (
	offsetNumber = 0
	offsetArch   = 4
	offsetArgs   = 16
)

// test is a condition on the low word of an argument, which is all that the kernel reads
// of the int and unsigned int arguments tested here; or on the high word as well.
type test struct {
	arg int
	// mask are the bits that are compared; 0 stands for all.
	mask uint32
	high bool
	is   []uint32
}

// rule is a system call that is allowed if all tests of one of the lists hold, and otherwise
// fails with errno.
type rule struct {
	call  uint32
	any   [][]test
	errno unix.Errno
}

const (
	allow = unix.SECCOMP_RET_ALLOW
	kill  = unix.SECCOMP_RET_KILL_PROCESS
)

func fails(e unix.Errno) uint32 { return unix.SECCOMP_RET_ERRNO | uint32(e) }

// program assembles the filter of the process pid: a binary search among ranges of numbers. A linear
// list would cost a start most of its time, since the kernel runs the filter once for each existing
// system call to make its bitmap.
func program(pid int) []unix.SockFilter {
	what := make(map[uint32][]unix.SockFilter)
	lists := []struct {
		calls []uint32
		then  uint32
	}{{allowed[:], allow}, {allowedHere[:], allow}, {fatal[:], kill}, {fatalHere[:], kill}}
	for _, l := range lists {
		for _, nr := range l.calls {
			what[nr] = []unix.SockFilter{ret(l.then)}
		}
	}
	for _, r := range rules(uint32(pid)) {
		what[r.call] = r.body()
	}
	unknown := []unix.SockFilter{ret(fails(unix.ENOSYS))}
	ranges := []span{{0, unknown}}
	begin := func(from uint32, do []unix.SockFilter) {
		last := &ranges[len(ranges)-1]
		switch {
		case last.from == from:
			last.do = do
		case len(do) != 1 || len(last.do) != 1 || do[0] != last.do[0]:
			ranges = append(ranges, span{from, do})
		}
	}
	for _, nr := range slices.Sorted(maps.Keys(what)) {
		begin(nr, what[nr])
		if what[nr+1] == nil {
			begin(nr+1, unknown)
		}
	}
	if foreign != 0 { // numbers of another ABI of the same architecture
		begin(foreign, []unix.SockFilter{ret(kill)})
	}
	p := []unix.SockFilter{load(offsetArch), equal(auditArch, 1, 0), ret(kill), load(offsetNumber)}
	return append(p, search(ranges)...)
}

// span is the system calls from a number on up to the next span, with what is done with them.
type span struct {
	from uint32
	do   []unix.SockFilter
}

// search assembles the search for the span of a number.
func search(s []span) []unix.SockFilter {
	if len(s) == 1 {
		return s[0].do
	}
	mid := len(s) / 2
	low, high := search(s[:mid]), search(s[mid:])
	p := []unix.SockFilter{
		{Code: unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K, Jf: 1, K: s[mid].from},
		{Code: unix.BPF_JMP | unix.BPF_JA, K: uint32(len(low))}, // a comparison may not be able to jump that far
	}
	return append(append(p, low...), high...)
}

// body assembles what follows when the number is r's.
func (r *rule) body() (b []unix.SockFilter) {
	for _, tests := range r.any {
		b = append(b, all(tests)...)
	}
	return append(b, ret(fails(r.errno)))
}

// all assembles instructions that allow a call if all tests hold, and otherwise continue
// after themselves.
func all(tests []test) []unix.SockFilter {
	if len(tests) == 0 {
		return []unix.SockFilter{ret(allow)}
	}
	t, rest := tests[0], all(tests[1:])
	at := offsetArgs + 8*t.arg
	if t.high {
		at += 4
	}
	b := []unix.SockFilter{load(uint32(at))}
	if t.mask != 0 {
		b = append(b, unix.SockFilter{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: t.mask})
	}
	for i, v := range t.is {
		b = append(b, equal(v, uint8(len(t.is)-i), 0)) // over the other values and the jump
	}
	b = append(b, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JA, K: uint32(len(rest))})
	return append(b, rest...)
}

func load(offset uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
}

// equal compares with k, and skips jt or jf instructions.
func equal(k uint32, jt, jf uint8) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jt: jt, Jf: jf, K: k}
}

func ret(what uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: what}
}
