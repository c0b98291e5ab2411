#include "textflag.h"

// func vfork(flags uintptr, pidfd *int32) (pid int, errno syscall.Errno)
//
// clone(flags, 0, pidfd, 0, 0). The child runs on the caller's stack, where its calls overwrite what is below the
// caller's frame; this function has nothing there.
TEXT ·vfork(SB),NOSPLIT,$0-32
	MOVD	flags+0(FP), R0
	MOVD	$0, R1
	MOVD	pidfd+8(FP), R2
	MOVD	$0, R3
	MOVD	$0, R4
	MOVD	$220, R8 // clone
	SVC
	CMN	$4095, R0
	BCS	failed
	MOVD	R0, pid+16(FP)
	MOVD	ZR, errno+24(FP)
	RET
failed:
	MOVD	$-1, R1
	MOVD	R1, pid+16(FP)
	NEG	R0, R0
	MOVD	R0, errno+24(FP)
	RET
