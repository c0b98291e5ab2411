// Package cgroup says how much memory the processes of a control group may use, and how many more there may be,
// by version 1 or 2, as cgroups(7) and the kernel's Documentation/admin-guide/cgroup-v2.rst have it.
//
// It owns the rules for finding and reading a control group's files, in a tree that it is given. It
// must never write to one, or rely on a file or number being there.
package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"path"
	"strconv"
	"strings"
)

// Group is the control group of a process and the visible ones above it.
type Group struct {
	root   fs.FS
	levels []level // from the process's own upwards
}

// level is one group of the hierarchy.
type level struct {
	dir string
	v2  bool
}

// maxLevels bounds the depth of a hierarchy.
const maxLevels = 64

// Find returns the memory control groups of this process; root is the file system at "/". On a system
// without control groups the Group has no levels and no limits.
func Find(root fs.FS) (*Group, error) { return find(root, "memory") }

// FindPids returns the control groups that bound the number of processes and threads.
func FindPids(root fs.FS) (*Group, error) { return find(root, "pids") }

// find returns the groups of a controller of version 1, and those of version 2, which has all
// controllers.
func find(root fs.FS, controller string) (*Group, error) {
	own, err := fs.ReadFile(root, "proc/self/cgroup")
	if err != nil {
		return nil, fmt.Errorf("find the control group of this process: %w", err)
	}
	mounts, err := fs.ReadFile(root, "proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("find where control groups are mounted: %w", err)
	}
	g := &Group{root: root}
	for _, v2 := range [...]bool{false, true} {
		at, ok := pathOf(string(own), controller, v2)
		if !ok {
			continue
		}
		top, below, ok := mountOf(string(mounts), controller, v2)
		if ok {
			g.add(top, relative(at, below), v2)
		}
	}
	return g, nil
}

// add adds the group at rel below the mount point top, and all between.
func (g *Group) add(top, rel string, v2 bool) {
	dir := path.Join(top, rel)
	if _, err := fs.Stat(g.root, dir); err != nil {
		dir = top // a name in another namespace: ours is the mounted one
	}
	for range maxLevels {
		g.levels = append(g.levels, level{dir, v2})
		if dir == top {
			return
		}
		dir = path.Dir(dir)
	}
}

// pathOf returns the path of a process's group, from /proc/PID/cgroup: cgroups(7).
func pathOf(file, controller string, v2 bool) (string, bool) {
	for line := range strings.Lines(file) {
		f := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(f) != 3 || !strings.HasPrefix(f[2], "/") {
			continue
		}
		if v2 && f[0] == "0" && f[1] == "" || !v2 && has(f[1], controller) {
			return f[2], true
		}
	}
	return "", false
}

// mountOf returns where a hierarchy is mounted, without the leading slash, and which group of it that
// is, from /proc/PID/mountinfo: proc_pid_mountinfo(5).
func mountOf(file, controller string, v2 bool) (top, below string, ok bool) {
	for line := range strings.Lines(file) {
		before, after, found := strings.Cut(strings.TrimSuffix(line, "\n"), " - ")
		m, kind := strings.Fields(before), strings.Fields(after)
		if !found || len(m) < 5 || len(kind) < 3 || !strings.HasPrefix(m[3], "/") {
			continue
		}
		if v2 && kind[0] == "cgroup2" || !v2 && kind[0] == "cgroup" && has(kind[2], controller) {
			top := strings.TrimPrefix(path.Clean(unescape(m[4])), "/")
			if fs.ValidPath(top) {
				return top, unescape(m[3]), true
			}
		}
	}
	return "", "", false
}

// relative returns a group's path below the one that is mounted. A group that isn't below it is in
// another namespace; then the mounted one stands for it.
func relative(at, below string) string {
	at, below = path.Clean(at), path.Clean(below)
	if below == "/" {
		return strings.TrimPrefix(at, "/")
	}
	if rest, ok := strings.CutPrefix(at, below); ok && (rest == "" || rest[0] == '/') {
		return strings.TrimPrefix(rest, "/")
	}
	return ""
}

// has reports whether w is one of the words of a list, which are separated by commas.
func has(list, w string) bool {
	for v := range strings.SplitSeq(list, ",") {
		if v == w {
			return true
		}
	}
	return false
}

// unescape undoes mountinfo's \040 for a blank and its like.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

// Room returns the bytes that all processes of the group together may use for their own memory. It
// is the minimum, over the group and those above it, of the limit minus what the kernel uses for
// sockets, other structures and shared memory. ok is false if there is no limit.
func (g *Group) Room() (room int64, ok bool) {
	room = math.MaxInt64
	for _, l := range g.levels {
		limit, limited := g.limit(l)
		if !limited {
			continue
		}
		// Much of what the kernel uses is cache, which it can free.
		room, ok = min(room, limit-min(g.kernel(l), limit/2)), true
	}
	return room, ok
}

// Processes returns how many more processes and threads the group may have: the minimum over the group and
// those above it. ok is false if there is no limit. The Group must come from FindPids.
func (g *Group) Processes() (room int64, ok bool) {
	room = math.MaxInt64
	for _, l := range g.levels {
		most, err := g.number(path.Join(l.dir, "pids.max"))
		if err != nil || most >= unlimited {
			continue
		}
		if n, err := g.number(path.Join(l.dir, "pids.current")); err == nil {
			room, ok = min(room, max(most-n, 0)), true
		}
	}
	return room, ok
}

// unlimited is the least number that means no limit: version 1 writes one near 2^63.
const unlimited = 1 << 60

// limit returns a level's limit in bytes.
func (g *Group) limit(l level) (int64, bool) {
	files := []string{"memory.max", "memory.high"}
	if !l.v2 {
		files = []string{"memory.limit_in_bytes"}
	}
	least, ok := int64(unlimited), false
	for _, f := range files {
		if v, err := g.number(path.Join(l.dir, f)); err == nil && v < least {
			least, ok = v, true
		}
	}
	if !l.v2 { // includes the limits of groups above that can't be seen
		if v, there := g.stat(l)["hierarchical_memory_limit"]; there && v < least {
			least, ok = v, true
		}
	}
	return least, ok
}

// kernel returns the bytes of a level that belong to no process. In version 2 these include sockets; in
// version 1 sockets have a limit of their own.
func (g *Group) kernel(l level) int64 {
	stat := g.stat(l)
	if !l.v2 {
		slab, _ := g.number(path.Join(l.dir, "memory.kmem.usage_in_bytes"))
		return sum(slab, stat["total_shmem"])
	}
	kernel, there := stat["kernel"] // since Linux 5.18; includes what can be reclaimed
	kernel -= min(stat["slab_reclaimable"], kernel)
	if !there {
		kernel = sum(stat["kernel_stack"], stat["pagetables"], stat["percpu"], stat["slab_unreclaimable"])
	}
	return sum(kernel, stat["sock"], stat["shmem"])
}

// sum adds numbers that are at least 0 and at most unlimited.
func sum(v ...int64) int64 {
	s := int64(0)
	for _, n := range v {
		s = min(s+n, unlimited)
	}
	return s
}

var errNumber = errors.New("not a number of bytes")

// number reads a file with one number, or the word max.
func (g *Group) number(name string) (int64, error) {
	b, err := fs.ReadFile(g.root, name)
	if err != nil {
		return 0, err
	}
	return parse(strings.TrimSpace(string(b)))
}

func parse(s string) (int64, error) {
	if s == "max" {
		return unlimited, nil
	}
	v, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		return 0, errNumber
	}
	return int64(min(v, unlimited)), nil
}

// stat reads memory.stat. It skips what it can't read.
func (g *Group) stat(l level) map[string]int64 {
	b, _ := fs.ReadFile(g.root, path.Join(l.dir, "memory.stat"))
	stat := make(map[string]int64)
	for line := range strings.Lines(string(b)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if v, err := parse(value); err == nil {
			stat[name] = v
		}
	}
	return stat
}
