// Package failpoint stops execution at a named place, so that a test can keep a race
// window open or end a process in it. It owns the files by which tests and processes
// agree; it must never do anything in an ordinary binary.
//
// It exists only in binaries built with the tag `failpoint`; in all others Hit is empty and is compiled away. When execution
// reaches the point NAME and the file NAME is in $REUSEPORTD_FAILPOINT_DIR, Hit creates NAME.hit.PID beside it and does what
// the file says: `pause` (until the file is removed), `kill` (SIGKILL to itself), `exit`, `panic`, `error`, or `errno NAME`,
// which makes the system call there fail with that errno. `try WHAT …` does what an attacker who controls the process would
// do, and writes the outcome to NAME.tried.PID: `try open PATH`, `try exec PATH`, `try connect ADDRESS`, `try bind PORT`,
// `try signal PID`, `try own PID`, `try option NUMBER`, `try socket FAMILY`.
package failpoint
