package sandbox

import "golang.org/x/sys/unix"

const (
	auditArch = unix.AUDIT_ARCH_AARCH64
	foreign   = 0 // there is one ABI
)

var allowedHere = [...]uint32{unix.SYS_NEWFSTATAT}

var fatalHere = [...]uint32{}
