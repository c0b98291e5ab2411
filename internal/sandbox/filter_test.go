//go:build amd64 || arm64

package sandbox

import (
	"testing"

	"golang.org/x/sys/unix"
)

// run is what the kernel does with a filter, for a call with these arguments.
func run(t *testing.T, prog []unix.SockFilter, arch, nr uint32, args ...uint64) uint32 {
	t.Helper()
	var all [6]uint64
	copy(all[:], args)
	word := func(at uint32) uint32 {
		switch {
		case at == offsetNumber:
			return nr
		case at == offsetArch:
			return arch
		case at >= offsetArgs && at%8 == 0:
			return uint32(all[(at-offsetArgs)/8])
		case at >= offsetArgs:
			return uint32(all[(at-offsetArgs)/8] >> 32)
		}
		t.Fatalf("it reads at %d", at)
		return 0
	}
	var acc uint32
	for pc := 0; pc < len(prog); pc++ {
		in := prog[pc]
		jump := func(yes bool) {
			if yes {
				pc += int(in.Jt)
			} else {
				pc += int(in.Jf)
			}
		}
		switch in.Code {
		case unix.BPF_LD | unix.BPF_W | unix.BPF_ABS:
			acc = word(in.K)
		case unix.BPF_ALU | unix.BPF_AND | unix.BPF_K:
			acc &= in.K
		case unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K:
			jump(acc == in.K)
		case unix.BPF_JMP | unix.BPF_JA:
			pc += int(in.K)
		case unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K:
			jump(acc >= in.K)
		case unix.BPF_RET | unix.BPF_K:
			return in.K
		default:
			t.Fatalf("instruction %d has the code %#x", pc, in.Code)
		}
	}
	t.Fatal("it ends without a verdict")
	return 0
}

func TestFilter(t *testing.T) {
	const pid = 4711
	prog := program(pid)
	code := fails(unix.EPERM)
	if !static {
		code = allow
	}
	for _, c := range []struct {
		what string
		nr   uint32
		args []uint64
		want uint32
	}{
		{"read", unix.SYS_READ, nil, allow},
		{"openat2", unix.SYS_OPENAT2, nil, allow},
		{"execve", unix.SYS_EXECVE, nil, kill},
		{"ptrace", unix.SYS_PTRACE, nil, kill},
		{"io_uring_setup", unix.SYS_IO_URING_SETUP, nil, kill},
		{"clone3", unix.SYS_CLONE3, nil, fails(unix.ENOSYS)},
		{"setresuid", unix.SYS_SETRESUID, nil, fails(unix.ENOSYS)},
		{"bind", unix.SYS_BIND, nil, fails(unix.ENOSYS)},
		{"no such call", 9999, nil, fails(unix.ENOSYS)},
		{"an Internet socket", unix.SYS_SOCKET, []uint64{unix.AF_INET, unix.SOCK_STREAM}, allow},
		{"a Unix socket", unix.SYS_SOCKET, []uint64{unix.AF_UNIX, unix.SOCK_STREAM}, allow},
		{"a packet socket", unix.SYS_SOCKET, []uint64{unix.AF_PACKET}, fails(unix.EAFNOSUPPORT)},
		{"a netlink socket", unix.SYS_SOCKET, []uint64{unix.AF_NETLINK}, fails(unix.EAFNOSUPPORT)},
		{"a raw socket", unix.SYS_SOCKET, []uint64{unix.AF_INET, unix.SOCK_RAW | unix.SOCK_CLOEXEC, unix.IPPROTO_RAW}, fails(unix.EAFNOSUPPORT)},
		{"a protocol to be loaded", unix.SYS_SOCKET, []uint64{unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_SCTP}, fails(unix.EAFNOSUPPORT)},
		{"a resolver's socket", unix.SYS_SOCKET, []uint64{unix.AF_INET6, unix.SOCK_DGRAM | unix.SOCK_NONBLOCK, unix.IPPROTO_UDP}, allow},
		{"linger", unix.SYS_SETSOCKOPT, []uint64{5, unix.SOL_SOCKET, unix.SO_LINGER}, allow},
		{"no delay", unix.SYS_SETSOCKOPT, []uint64{5, unix.IPPROTO_TCP, unix.TCP_NODELAY}, allow},
		{"acknowledge now", unix.SYS_SETSOCKOPT, []uint64{5, unix.IPPROTO_TCP, unix.TCP_QUICKACK}, allow},
		{"an IPv6 socket of a resolver", unix.SYS_SETSOCKOPT, []uint64{5, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY}, allow},
		{"steer others' connections", unix.SYS_SETSOCKOPT, []uint64{5, unix.SOL_SOCKET, unix.SO_ATTACH_REUSEPORT_CBPF}, fails(unix.EPERM)},
		{"end the steering", unix.SYS_SETSOCKOPT, []uint64{5, unix.SOL_SOCKET, unix.SO_DETACH_REUSEPORT_BPF}, fails(unix.EPERM)},
		{"another level's number", unix.SYS_SETSOCKOPT, []uint64{5, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER}, fails(unix.EPERM)}, // IPV6_V6ONLY's
		{"the kernel's TLS", unix.SYS_SETSOCKOPT, []uint64{5, unix.IPPROTO_TCP, unix.TCP_ULP}, fails(unix.EPERM)},
		{"another level", unix.SYS_SETSOCKOPT, []uint64{5, unix.IPPROTO_IP, 1}, fails(unix.EPERM)},
		{"a duplicate", unix.SYS_FCNTL, []uint64{5, unix.F_DUPFD_CLOEXEC, 3}, allow},
		{"a lock", unix.SYS_FCNTL, []uint64{5, unix.F_SETLK, 1 << 40}, allow},
		{"signals to an owner", unix.SYS_FCNTL, []uint64{5, unix.F_SETOWN, 1}, fails(unix.EPERM)},
		{"signals to an owner by its kind", unix.SYS_FCNTL, []uint64{5, unix.F_SETOWN_EX, 1 << 40}, fails(unix.EPERM)},
		{"which signal", unix.SYS_FCNTL, []uint64{5, unix.F_SETSIG, 9}, fails(unix.EPERM)},
		{"a lease", unix.SYS_FCNTL, []uint64{5, unix.F_SETLEASE, 1}, fails(unix.EPERM)},
		{"a thread", unix.SYS_CLONE, []uint64{unix.CLONE_VM | unix.CLONE_THREAD | unix.CLONE_SIGHAND}, allow},
		{"a process", unix.SYS_CLONE, []uint64{uint64(unix.SIGCHLD)}, fails(unix.EPERM)},
		{"a namespace", unix.SYS_CLONE, []uint64{unix.CLONE_THREAD | unix.CLONE_NEWUSER}, fails(unix.EPERM)},
		{"kill itself", unix.SYS_KILL, []uint64{pid, 6}, allow},
		{"kill others", unix.SYS_KILL, []uint64{pid + 1, 6}, fails(unix.EPERM)},
		{"kill all", unix.SYS_KILL, []uint64{1<<64 - 1, 9}, fails(unix.EPERM)},
		{"tgkill itself", unix.SYS_TGKILL, []uint64{pid, 1, 6}, allow},
		{"tgkill others", unix.SYS_TGKILL, []uint64{1, 1, 6}, fails(unix.EPERM)},
		{"read a limit", unix.SYS_PRLIMIT64, []uint64{0, 7, 0, 1 << 40}, allow},
		{"set a limit", unix.SYS_PRLIMIT64, []uint64{0, 7, 1 << 40, 0}, fails(unix.EPERM)},
		{"another's limit", unix.SYS_PRLIMIT64, []uint64{1, 7, 0, 1}, fails(unix.EPERM)},
		{"name memory", unix.SYS_PRCTL, []uint64{unix.PR_SET_VMA}, allow},
		{"become dumpable", unix.SYS_PRCTL, []uint64{unix.PR_SET_DUMPABLE, 1}, fails(unix.EPERM)},
		{"type into a terminal", unix.SYS_IOCTL, []uint64{0, unix.TIOCSTI}, fails(unix.ENOTTY)},
		{"memory", unix.SYS_MMAP, []uint64{0, 4096, unix.PROT_READ | unix.PROT_WRITE}, allow},
		{"code", unix.SYS_MMAP, []uint64{0, 4096, unix.PROT_READ | unix.PROT_EXEC}, code},
		{"memory made code", unix.SYS_MPROTECT, []uint64{0, 4096, unix.PROT_EXEC}, code},
	} {
		if got := run(t, prog, auditArch, c.nr, c.args...); got != c.want {
			t.Errorf("%s: %#x, want %#x", c.what, got, c.want)
		}
		if got := run(t, prog, unix.AUDIT_ARCH_I386, c.nr, c.args...); got != kill {
			t.Errorf("%s of another architecture: %#x", c.what, got)
		}
		if foreign != 0 {
			if got := run(t, prog, auditArch, c.nr|foreign, c.args...); got != kill {
				t.Errorf("%s of another ABI: %#x", c.what, got)
			}
		}
	}
	if len(prog) > unix.BPF_MAXINSNS {
		t.Errorf("%d instructions", len(prog))
	}
}
