//go:build amd64 || arm64

package sandbox

import (
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Filter allows all threads of the process, and those to come, only the system calls that a
// worker makes: seccomp(2). It can't be taken back.
//
// What is not known to be needed fails with ENOSYS, upon which libc and Go do without; what an
// attacker would begin with ends the process (SIGSYS). The lists are in calls.go. The program is
// assembled here, from numbers that are constants: a library with tables of names, as
// go-seccomp-bpf, costs each start of a worker more than all the rest of the sandbox.
func Filter() error {
	insns := program(os.Getpid())
	prog := unix.SockFprog{Len: uint16(len(insns)), Filter: &insns[0]}
	// Without SPEC_ALLOW the kernel turns a mitigation on that costs each of the process's indirect
	// branches, on kernels before 5.16.
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

// test is a condition on the low word of an argument, which is all that the kernel
// reads of those that are tested here (int and unsigned int), or on the high one too.
type test struct {
	arg int
	// mask is what is looked at, 0 stands for all bits.
	mask uint32
	high bool
	is   []uint32
}

// rule is a system call that is allowed if all tests hold, and else fails with errno.
type rule struct {
	call  uint32
	tests []test
	errno unix.Errno
}

const (
	allow = unix.SECCOMP_RET_ALLOW
	kill  = unix.SECCOMP_RET_KILL_PROCESS
)

func fails(e unix.Errno) uint32 { return unix.SECCOMP_RET_ERRNO | uint32(e) }

// program assembles the filter of the process pid.
func program(pid int) []unix.SockFilter {
	p := []unix.SockFilter{load(offsetArch), equal(auditArch, 1, 0), ret(kill), load(offsetNumber)}
	if foreign != 0 { // the numbers of another ABI of the same architecture
		p = append(p, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K, Jf: 1, K: foreign}, ret(kill))
	}
	for _, list := range [][]uint32{allowed[:], allowedHere[:]} {
		for _, nr := range list {
			p = append(p, equal(nr, 0, 1), ret(allow))
		}
	}
	for _, r := range rules(uint32(pid)) {
		body := r.body()
		p = append(append(p, equal(r.call, 0, uint8(len(body)))), body...)
	}
	for _, list := range [][]uint32{fatal[:], fatalHere[:]} {
		for _, nr := range list {
			p = append(p, equal(nr, 0, 1), ret(kill))
		}
	}
	return append(p, ret(fails(unix.ENOSYS)))
}

// body is what follows once the number is known to be r's.
func (r *rule) body() (b []unix.SockFilter) {
	for _, t := range r.tests {
		at := offsetArgs + 8*t.arg
		if t.high {
			at += 4
		}
		b = append(b, load(uint32(at)))
		if t.mask != 0 {
			b = append(b, unix.SockFilter{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: t.mask})
		}
		for i, v := range t.is {
			b = append(b, equal(v, uint8(len(t.is)-i), 0)) // over the others and the refusal
		}
		b = append(b, ret(fails(r.errno)))
	}
	return append(b, ret(allow))
}

func load(offset uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
}

// equal goes on after jt or jf further instructions.
func equal(k uint32, jt, jf uint8) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jt: jt, Jf: jf, K: k}
}

func ret(what uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: what}
}
