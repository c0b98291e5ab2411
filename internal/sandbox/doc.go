// Package sandbox takes from a worker what it has no use for, so that one that was
// taken over by an attacker reaches nothing beyond what a worker reaches anyway.
//
// It works in three places, in this order:
//
//	the worker's process before its program begins: Start takes capabilities away
//	                            (the bounding set), sets no_new_privs and Landlock between
//	                            fork and exec
//	the worker's first act:     Enter becomes the worker's user. The process was executed as
//	                            root, so nobody of that user could trace it before, and
//	                            changing the user makes it not dumpable: nobody can after
//	the worker's last act before it is ready: Filter allows its threads the system calls that
//	                            a worker makes (seccomp)
//
// AsUser lets the master try what a worker's user may, and Report says what the kernel has
// in force for a process. Each works from numbers and paths that the caller has; the
// package must never read a configuration nor know what a worker serves.
package sandbox
