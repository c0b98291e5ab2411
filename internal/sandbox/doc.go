// Package sandbox takes from a worker all rights that it doesn't need, so that an
// attacker who controls one reaches no more than a worker needs.
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
// AsUser lets the master try what a worker's user may do, and Report is what the kernel
// says is in force for a process. It owns the lists of system calls, files and
// capabilities, and the start of a confined process. It works from numbers and paths that
// the caller gives; it must never read a configuration or know what a worker serves.
package sandbox
