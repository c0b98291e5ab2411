package rundir

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// Hold takes a shared flock(2) on the directory itself, which keeps systemd-tmpfiles, with
// all that is below, away (tmpfiles.d(5), "Age"). It doesn't show who is the master, since
// whoever can read the directory can take it. It belongs to the open file description, so
// it lasts until the last duplicate of Held is closed. If a cleaner is at work in the
// directory, Hold waits for it up to patience.
func (d *Dir) Hold(patience time.Duration) error {
	if d.held >= 0 {
		return nil
	}
	fd, err := unix.Openat(d.fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("hold %s: %w", d.path, err)
	}
	for end := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		if err = unix.Flock(fd, unix.LOCK_SH|unix.LOCK_NB); !errors.Is(err, unix.EWOULDBLOCK) || time.Now().After(end) {
			break
		}
	}
	if err != nil {
		_ = unix.Close(fd)
		return fmt.Errorf("hold %s: flock: %w", d.path, err)
	}
	d.held = fd
	return nil
}

// Held returns the descriptor by which the directory is held, for workers to share; -1 if
// it isn't held. The directory keeps owning it.
func (d *Dir) Held() int { return d.held }

// Lost reports whether the directory's path no longer leads to it: somebody has removed
// or moved it.
func (d *Dir) Lost() bool {
	var mine, there unix.Stat_t
	if unix.Fstat(d.fd, &mine) != nil || unix.Stat(d.path, &there) != nil {
		return true
	}
	return mine.Dev != there.Dev || mine.Ino != there.Ino
}

// Remake opens the directory that is at d's path now, or makes one with d's mode and
// group, and checks it as Open does. d stays open.
func (d *Dir) Remake() (*Dir, error) {
	fresh, err := Open(d.path, Options{Make: true, Unsafe: d.unsafe})
	if err != nil {
		return nil, err
	}
	if err := fresh.like(d); err != nil {
		_ = fresh.Close()
		return nil, fmt.Errorf("runtime directory %s: make it as it was: %w", d.path, err)
	}
	return fresh, nil
}

// like gives a new directory the mode and the group of another one.
func (d *Dir) like(old *Dir) error {
	var was, is unix.Stat_t
	if err := errors.Join(unix.Fstat(old.fd, &was), unix.Fstat(d.fd, &is)); err != nil {
		return err
	}
	if !d.made || was.Mode == is.Mode && was.Gid == is.Gid {
		return nil
	}
	fd, err := unix.Openat(d.fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.Fchown(fd, -1, int(was.Gid)); err != nil {
		return nil // this user is no longer in the group for which the mode was meant
	}
	return unix.Fchmod(fd, was.Mode&0o7777)
}

// Inode returns the inode number of an entry, which no other one has while it exists; 0 if
// there is no such entry.
func (d *Dir) Inode(name string) uint64 {
	var st unix.Stat_t
	if entry(name) != nil || unix.Fstatat(d.fd, name, &st, unix.AT_SYMLINK_NOFOLLOW) != nil {
		return 0
	}
	return st.Ino
}

// Touch sets the times of all entries to now: cleaners other than systemd-tmpfiles look
// at the age only.
func (d *Dir) Touch() error {
	names, err := d.Names("", "")
	for _, name := range names {
		terr := unix.UtimesNanoAt(d.fd, name, nil, unix.AT_SYMLINK_NOFOLLOW)
		if terr != nil && !errors.Is(terr, unix.ENOENT) {
			err = errors.Join(err, fmt.Errorf("touch %s: %w", name, terr))
		}
	}
	return err
}
