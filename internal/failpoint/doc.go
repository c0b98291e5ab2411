// Package failpoint holds execution at a named place, so that a test can keep
// a race window open or end a process in it.
//
// It exists only in binaries built with the tag `failpoint`; in all others Hit
// is empty and is compiled away. When execution reaches the point NAME and the
// file NAME stands in $REUSEPORTD_FAILPOINT_DIR, Hit creates NAME.hit.PID
// beside it and does what the file says: `pause` (until the file is removed),
// `kill` (SIGKILL to itself), `exit`, `panic`, `error`, or `errno NAME`: what the system call that comes there is to
// have failed with. `try WHAT …` does what an
// attacker would who has taken the process over, and writes what came of it to NAME.tried.PID:
// `try open PATH`, `try exec PATH`, `try connect ADDRESS`, `try bind PORT`, `try signal PID`, `try own PID`, `try option NUMBER`,
// `try socket FAMILY`.
package failpoint
