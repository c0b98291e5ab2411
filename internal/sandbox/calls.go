//go:build amd64 || arm64

package sandbox

import "golang.org/x/sys/unix"

// allowed are the system calls that a worker may make with any arguments. None of them reaches
// anything that the process doesn't reach already; access to files is Landlock's concern. Frequent
// ones needn't come first: the kernel keeps a bitmap of the calls that are allowed regardless of
// arguments (since 5.11).
var allowed = [...]uint32{
	// Bytes and descriptors.
	unix.SYS_READ, unix.SYS_WRITE, unix.SYS_READV, unix.SYS_WRITEV, unix.SYS_PREAD64, unix.SYS_PWRITE64,
	unix.SYS_SENDFILE, unix.SYS_SPLICE, unix.SYS_TEE, unix.SYS_LSEEK, unix.SYS_FTRUNCATE, unix.SYS_FLOCK,
	unix.SYS_CLOSE, unix.SYS_DUP, unix.SYS_DUP3, unix.SYS_PIPE2, unix.SYS_EVENTFD2, unix.SYS_MEMFD_CREATE,
	unix.SYS_FSTAT, unix.SYS_STATX, unix.SYS_OPENAT, unix.SYS_OPENAT2, unix.SYS_GETDENTS64, unix.SYS_READLINKAT,
	unix.SYS_FACCESSAT, unix.SYS_FACCESSAT2, unix.SYS_FADVISE64,
	// Sockets that are there.
	unix.SYS_LISTEN, // at a new rescue, if somebody removes the runtime directory; bind(2) is not there
	unix.SYS_ACCEPT, unix.SYS_ACCEPT4, unix.SYS_CONNECT, unix.SYS_SHUTDOWN, unix.SYS_SENDTO, unix.SYS_RECVFROM,
	unix.SYS_SENDMSG, unix.SYS_RECVMSG, unix.SYS_SENDMMSG, unix.SYS_RECVMMSG,
	unix.SYS_GETSOCKNAME, unix.SYS_GETPEERNAME, unix.SYS_GETSOCKOPT,
	// Waiting.
	unix.SYS_EPOLL_CREATE1, unix.SYS_EPOLL_CTL, unix.SYS_EPOLL_PWAIT, unix.SYS_EPOLL_PWAIT2, unix.SYS_PPOLL, unix.SYS_PSELECT6,
	unix.SYS_FUTEX, unix.SYS_NANOSLEEP, unix.SYS_CLOCK_NANOSLEEP, unix.SYS_RESTART_SYSCALL, unix.SYS_SCHED_YIELD,
	// Memory. A rule says what may be executed.
	unix.SYS_MUNMAP, unix.SYS_MREMAP, unix.SYS_MADVISE, unix.SYS_MINCORE, unix.SYS_BRK, unix.SYS_MEMBARRIER,
	// Threads and signals of the runtime, its timers for profiles and their ends.
	unix.SYS_SET_ROBUST_LIST, unix.SYS_RSEQ, unix.SYS_SET_TID_ADDRESS, unix.SYS_EXIT, unix.SYS_EXIT_GROUP,
	unix.SYS_RT_SIGACTION, unix.SYS_RT_SIGPROCMASK, unix.SYS_RT_SIGRETURN, unix.SYS_RT_SIGPENDING,
	unix.SYS_RT_SIGTIMEDWAIT, unix.SYS_SIGALTSTACK,
	unix.SYS_TIMER_CREATE, unix.SYS_TIMER_SETTIME, unix.SYS_TIMER_GETTIME, unix.SYS_TIMER_DELETE,
	unix.SYS_SETITIMER, unix.SYS_GETITIMER,
	// What the process asks about itself.
	unix.SYS_CLOCK_GETTIME, unix.SYS_CLOCK_GETRES, unix.SYS_GETTIMEOFDAY, unix.SYS_GETRUSAGE, unix.SYS_TIMES,
	unix.SYS_GETPID, unix.SYS_GETTID, unix.SYS_GETPPID, unix.SYS_GETUID, unix.SYS_GETEUID, unix.SYS_GETGID, unix.SYS_GETEGID,
	unix.SYS_UNAME, unix.SYS_SYSINFO, unix.SYS_GETRANDOM, unix.SYS_GETCPU, unix.SYS_SCHED_GETAFFINITY, unix.SYS_CAPGET,
}

// fatal are calls that no worker makes but an attacker would: they end the process.
var fatal = [...]uint32{
	unix.SYS_EXECVE, unix.SYS_EXECVEAT,
	unix.SYS_PTRACE, unix.SYS_PROCESS_VM_READV, unix.SYS_PROCESS_VM_WRITEV, unix.SYS_PIDFD_GETFD, unix.SYS_KCMP,
	unix.SYS_PROCESS_MADVISE, unix.SYS_PERSONALITY,
	unix.SYS_BPF, unix.SYS_PERF_EVENT_OPEN, unix.SYS_USERFAULTFD,
	unix.SYS_IO_URING_SETUP, unix.SYS_IO_URING_ENTER, unix.SYS_IO_URING_REGISTER,
	unix.SYS_ADD_KEY, unix.SYS_REQUEST_KEY, unix.SYS_KEYCTL,
	unix.SYS_UNSHARE, unix.SYS_SETNS, unix.SYS_CHROOT, unix.SYS_PIVOT_ROOT,
	unix.SYS_MOUNT, unix.SYS_UMOUNT2, unix.SYS_OPEN_TREE, unix.SYS_MOVE_MOUNT, unix.SYS_MOUNT_SETATTR,
	unix.SYS_FSOPEN, unix.SYS_FSCONFIG, unix.SYS_FSMOUNT, unix.SYS_FSPICK,
	unix.SYS_OPEN_BY_HANDLE_AT, unix.SYS_QUOTACTL, unix.SYS_SWAPON, unix.SYS_SWAPOFF, unix.SYS_ACCT,
	unix.SYS_INIT_MODULE, unix.SYS_FINIT_MODULE, unix.SYS_DELETE_MODULE,
	unix.SYS_KEXEC_LOAD, unix.SYS_KEXEC_FILE_LOAD, unix.SYS_REBOOT, unix.SYS_SYSLOG,
	unix.SYS_CLOCK_SETTIME, unix.SYS_SETTIMEOFDAY, unix.SYS_ADJTIMEX, unix.SYS_CLOCK_ADJTIME,
	unix.SYS_SETHOSTNAME, unix.SYS_SETDOMAINNAME,
}

// rules are the calls whose arguments decide whether they are allowed.
func rules(pid uint32) []rule {
	one := func(tests ...test) [][]test { return [][]test{tests} }
	self := one(test{arg: 0, is: []uint32{pid}})
	const namespaces = unix.CLONE_NEWCGROUP | unix.CLONE_NEWIPC | unix.CLONE_NEWNET | unix.CLONE_NEWNS |
		unix.CLONE_NEWPID | unix.CLONE_NEWUSER | unix.CLONE_NEWUTS
	noCode := one(test{arg: 2, mask: unix.PROT_EXEC, is: []uint32{0}})
	if !static {
		noCode = one()
	}
	return []rule{
		// TCP, UDP and Unix sockets only: asking for another protocol would make the kernel
		// load it.
		{unix.SYS_SOCKET, one(
			test{arg: 0, is: []uint32{unix.AF_INET, unix.AF_INET6, unix.AF_UNIX}},
			test{arg: 1, mask: 0xf, is: []uint32{unix.SOCK_STREAM, unix.SOCK_DGRAM}},
			test{arg: 2, is: []uint32{0, unix.IPPROTO_TCP, unix.IPPROTO_UDP}},
		), unix.EAFNOSUPPORT},
		{unix.SYS_SOCKETPAIR, one(test{arg: 0, is: []uint32{unix.AF_UNIX}}), unix.EAFNOSUPPORT},
		// The loops' options, and those that Go's resolver sets. A program for a group of shards
		// (SO_ATTACH_REUSEPORT_CBPF) could take new connections from all other workers.
		{unix.SYS_SETSOCKOPT, [][]test{
			option(unix.SOL_SOCKET, unix.SO_LINGER, unix.SO_KEEPALIVE, unix.SO_BROADCAST),
			option(unix.IPPROTO_TCP, unix.TCP_NODELAY, unix.TCP_QUICKACK, unix.TCP_KEEPIDLE, unix.TCP_KEEPINTVL, unix.TCP_KEEPCNT),
			option(unix.IPPROTO_IPV6, unix.IPV6_V6ONLY),
		}, unix.EPERM},
		// By F_SETOWN and F_SETSIG any signal could be sent, in spite of the rule for kill.
		{unix.SYS_FCNTL, one(test{arg: 1, is: []uint32{
			unix.F_DUPFD, unix.F_DUPFD_CLOEXEC, unix.F_GETFD, unix.F_SETFD, unix.F_GETFL, unix.F_SETFL, unix.F_SETLK,
			unix.F_SETPIPE_SZ, unix.F_GETPIPE_SZ, unix.F_ADD_SEALS, unix.F_GET_SEALS,
		}}), unix.EPERM},
		{unix.SYS_MMAP, noCode, unix.EPERM},
		{unix.SYS_MPROTECT, noCode, unix.EPERM},
		// Threads, but no processes. A filter can't see the arguments of clone3(2), so libc has
		// to fall back to this call.
		{unix.SYS_CLONE, one(test{arg: 0, mask: unix.CLONE_THREAD | namespaces, is: []uint32{unix.CLONE_THREAD}}), unix.EPERM},
		{unix.SYS_KILL, self, unix.EPERM},
		{unix.SYS_TGKILL, self, unix.EPERM},
		{unix.SYS_PIDFD_OPEN, self, unix.EPERM},
		// Pinning the calling thread to a CPU. The affinity of another process can't be changed.
		{unix.SYS_SCHED_SETAFFINITY, one(test{arg: 0, is: []uint32{0}}), unix.EPERM},
		// Reading one's own limits.
		{unix.SYS_PRLIMIT64, one(
			test{arg: 0, is: []uint32{0, pid}},
			test{arg: 2, is: []uint32{0}},
			test{arg: 2, high: true, is: []uint32{0}},
		), unix.EPERM},
		// Go and the race detector name their memory, libc its threads.
		{unix.SYS_PRCTL, one(test{arg: 0, is: []uint32{unix.PR_SET_VMA, unix.PR_SET_NAME, unix.PR_GET_NAME}}), unix.EPERM},
		{unix.SYS_IOCTL, one(test{arg: 1, is: []uint32{unix.TIOCINQ, unix.TIOCOUTQ, unix.TCGETS}}), unix.ENOTTY},
	}
}

// option tests that setsockopt(2) sets one of these options of a level.
func option(level uint32, names ...uint32) []test {
	return []test{{arg: 1, is: []uint32{level}}, {arg: 2, is: names}}
}
