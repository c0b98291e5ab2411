package upgrade

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"reuseportd/internal/record"
	"reuseportd/internal/shard"
	"reuseportd/internal/wire"
)

// seize takes from an orphan that is about to be ended the shards that it did not bring, by
// pidfd_getfd(2), before SIGKILL closes them. So those who wait in their queues are served, and
// no shard stays behind, in a duplicate that somebody keeps, with a share of the connections that nobody
// accepts. It returns how many it took.
//
// It takes the right to trace the worker (CAP_SYS_PTRACE, as root has it outside of a unit that drops
// it); without it, the error is EPERM.
func (o *orphan) seize(rec *record.Record) (int, error) {
	if o.brought == nil {
		o.brought = newBrought(rec, o.gen, o.rec)
	}
	wanted := make(map[uint64]wire.Lease)
	for i := range rec.Groups {
		g := &rec.Groups[i]
		for index, cookie := range g.Cookies {
			if _, came := o.brought.shards[g.Key][index]; !came {
				wanted[cookie] = wire.Lease{Key: g.Key, Index: index}
			}
		}
	}
	dir := fmt.Sprintf("/proc/%d/fd/", o.rec.PID)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0, err
	}
	taken := 0
	for _, e := range entries {
		number, err := strconv.Atoi(e.Name())
		if err != nil || len(wanted) == 0 {
			continue
		}
		// To close a file may wait for its file system, which the worker's user may have made up (FUSE).
		if target, err := os.Readlink(dir + e.Name()); err != nil || !strings.HasPrefix(target, "socket:") {
			continue
		}
		fd, err := unix.PidfdGetfd(o.pidfd, number, 0)
		switch err {
		case nil:
		case unix.EBADF: // closed since
			continue
		default:
			return taken, os.NewSyscallError("pidfd_getfd", err)
		}
		le, ok := wire.Lease{}, false
		if cookie, err := shard.Cookie(fd); err == nil && shard.Listens(fd) {
			le, ok = wanted[cookie]
			delete(wanted, cookie)
		}
		if !ok {
			_ = unix.Close(fd)
			continue
		}
		o.brought.keepShard(le, fd)
		taken++
	}
	return taken, nil
}
