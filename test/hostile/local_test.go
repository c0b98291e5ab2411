package hostile

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// localEnv makes the test binary a hostile local user: directory, seed and milliseconds. It
// prints what it has counted.
const localEnv = "REUSEPORTD_HOSTILE_LOCAL"

// runLocal has a hostile local user do what it can for a while.
func runLocal(a *account, dir string, uid uint32, seed uint64, life time.Duration) {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = []string{fmt.Sprintf("%s=%s %d %d", localEnv, dir, seed, life.Milliseconds())}
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	out, err := cmd.Output()
	var counts map[string]int
	if err == nil {
		err = json.Unmarshal(out, &counts)
	}
	if err != nil {
		a.fault("the local user %d: %v: %s", uid, err, out)
	}
	for what, n := range counts {
		if what[0] == '!' {
			a.fault("uid %d: %s, %d times", uid, what[1:], n)
			continue
		}
		a.add(fmt.Sprintf("uid %d: %s", uid, what), n)
	}
}

// local is the hostile local user. What begins with "!" must not happen.
func local(text string) {
	var dir string
	var seed uint64
	var ms int64
	if _, err := fmt.Sscan(text, &dir, &seed, &ms); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	r, end := rand.New(rand.NewPCG(seed, 1)), time.Now().Add(time.Duration(ms)*time.Millisecond)
	counts := make(map[string]int)
	null, _ := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	for time.Now().Before(end) {
		plant(r, dir, counts)
		entries, _ := os.ReadDir(dir)
		for _, e := range entries {
			touch(r, filepath.Join(dir, e.Name()), e.Type() == os.ModeSocket, null, counts)
		}
		grab(dir, counts)
		time.Sleep(time.Millisecond)
	}
	_ = json.NewEncoder(os.Stdout).Encode(counts)
}

// plant tries to put files where the server keeps its own.
func plant(r *rand.Rand, dir string, counts map[string]int) {
	name := filepath.Join(dir, pick(r, []string{"worker-9-9.sock", "evil", "reuseportd.pid", "record.json.tmp", strconv.Itoa(r.Int())}))
	counts["files to plant"]++
	if fd, err := unix.Open(name, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY, 0o644); err == nil {
		_ = unix.Close(fd)
		counts["!a file was planted"]++
	}
	if os.Symlink("/etc/passwd", name) == nil || os.Mkdir(name, 0o755) == nil {
		counts["!a link or directory was planted"]++
	}
	if os.Rename(dir, dir+".evil") == nil {
		counts["!the runtime directory was moved"]++
	}
}

// touch does to one file what may be done to it.
func touch(r *rand.Rand, path string, socket bool, null int, counts map[string]int) {
	if fd, err := unix.Open(path, unix.O_WRONLY|unix.O_NONBLOCK, 0); err == nil {
		_ = unix.Close(fd)
		counts["!a file was opened for writing"]++
	}
	if os.Remove(path) == nil || os.Chmod(path, 0o777) == nil {
		counts["!a file was removed or changed"]++
	}
	if !socket {
		return
	}
	for _, typ := range []int{unix.SOCK_STREAM, unix.SOCK_SEQPACKET, unix.SOCK_DGRAM} {
		fd, err := unix.Socket(unix.AF_UNIX, typ|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return
		}
		counts["sockets tried"]++
		if unix.Connect(fd, &unix.SockaddrUnix{Name: path}) == nil {
			counts["sockets connected"]++
			b, fds := datagram(r, pick(r, anybody))
			if say(fd, null, b, fds) == nil {
				counts["messages"]++
			}
		}
		_ = unix.Close(fd)
	}
}

// grab tries to take what isn't its own: the directory's lock, and other processes' descriptors.
func grab(dir string, counts map[string]int) {
	if fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY, 0); err == nil {
		if unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) == nil {
			counts["the directory's flock taken"]++
		}
		_ = unix.Close(fd)
	}
	pids, _ := filepath.Glob("/proc/[0-9]*")
	for _, proc := range pids {
		pid, _ := strconv.Atoi(filepath.Base(proc))
		text, _ := os.ReadFile(proc + "/cmdline")
		if !strings.Contains(string(text), "\x00worker\x00") && !strings.Contains(string(text), "\x00run\x00") {
			continue
		}
		pidfd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			continue
		}
		counts["processes tried"]++
		if fd, err := unix.PidfdGetfd(pidfd, 3, 0); err == nil {
			_ = unix.Close(fd)
			counts["!a descriptor of another process was taken"]++
		}
		_ = unix.Close(pidfd)
	}
}
