package cgroup

import (
	"testing"
	"testing/fstest"
)

const (
	v1 = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n"
	v2 = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"

	mib = 1 << 20
)

func TestRoom(t *testing.T) {
	for name, c := range map[string]struct {
		own, mounts string
		files       map[string]string // below sys/fs/cgroup
		room        int64             // MiB; -1 is no limit
	}{
		"none":          {"", "", nil, -1},
		"v2 max":        {"0::/a", v2, map[string]string{"a/memory.max": "max\n", "a/memory.high": "max\n"}, -1},
		"v2":            {"0::/a", v2, map[string]string{"a/memory.max": "209715200\n"}, 200},
		"v2 high":       {"0::/a", v2, map[string]string{"a/memory.max": "209715200\n", "a/memory.high": "104857600\n"}, 100},
		"v2 above":      {"0::/a/b/c", v2, map[string]string{"a/memory.max": "104857600", "a/b/c/memory.max": "209715200"}, 100},
		"v2 below only": {"0::/a/b", v2, map[string]string{"a/memory.max": "max", "a/b/memory.max": "104857600"}, 100},
		"v2 namespace":  {"0::/", v2, map[string]string{"memory.max": "104857600"}, 100},
		"v2 elsewhere":  {"0::/../x", v2, map[string]string{"memory.max": "104857600"}, 100},
		"v2 sockets": {"0::/a", v2, map[string]string{
			"a/memory.max": "209715200", "a/memory.stat": "anon 999999999\nsock 10485760\nkernel 31457280\nslab_reclaimable 10485760\nshmem 10485760\n",
		}, 160},
		"v2 before 5.18": {"0::/a", v2, map[string]string{
			"a/memory.max": "209715200", "a/memory.stat": "kernel_stack 1048576\npagetables 1048576\npercpu 1048576\nslab_unreclaimable 1048576\nsock 1048576\n",
		}, 195},
		"v2 full of kernel": {"0::/a", v2, map[string]string{"a/memory.max": "209715200", "a/memory.stat": "kernel 209715200"}, 100},
		"v2 garbage": {"0::/a\n:::\n\n9", v2 + "nonsense\n1 2 3 - x\n", map[string]string{
			"a/memory.max": "12 monkeys", "a/memory.high": "-1", "a/memory.stat": "sock x\nkernel\n\x00",
		}, -1},
		"v2 enormous": {"0::/a", v2, map[string]string{"a/memory.max": "99999999999999999999999"}, -1},
		"v2 zero":     {"0::/a", v2, map[string]string{"a/memory.max": "0"}, 0},
		"v1":          {"4:memory:/a", v1, map[string]string{"memory/a/memory.limit_in_bytes": "209715200\n"}, 200},
		"v1 none":     {"4:memory:/a", v1, map[string]string{"memory/a/memory.limit_in_bytes": "9223372036854771712\n"}, -1},
		"v1 above":    {"4:memory:/a/b", v1, map[string]string{"memory/a/memory.limit_in_bytes": "104857600", "memory/a/b/memory.limit_in_bytes": "9223372036854771712"}, 100},
		"v1 unseen":   {"4:memory:/docker/x", v1, map[string]string{"memory/memory.limit_in_bytes": "9223372036854771712", "memory/memory.stat": "hierarchical_memory_limit 104857600\n"}, 100},
		"v1 kernel": {"4:memory:/a", v1, map[string]string{
			"memory/a/memory.limit_in_bytes": "209715200", "memory/a/memory.kmem.usage_in_bytes": "10485760", "memory/a/memory.stat": "shmem 1\ntotal_shmem 10485760",
		}, 180},
		"v1 of a container": {
			"4:memory:/docker/x/y", "35 31 0:32 /docker/x /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n",
			map[string]string{"memory/y/memory.limit_in_bytes": "104857600", "memory/memory.limit_in_bytes": "209715200"},
			100,
		},
		"v1 beside v2": {
			"4:memory:/a\n0::/a", v1 + "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n",
			map[string]string{"memory/a/memory.limit_in_bytes": "104857600"},
			100,
		},
		"another controller": {"4:memory_x:/a", v1, map[string]string{"memory/a/memory.limit_in_bytes": "104857600"}, -1},
	} {
		root := fstest.MapFS{
			"proc/self/cgroup":    {Data: []byte(c.own)},
			"proc/self/mountinfo": {Data: []byte(c.mounts)},
		}
		for f, data := range c.files {
			root["sys/fs/cgroup/"+f] = &fstest.MapFile{Data: []byte(data)}
		}
		g, err := Find(root)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		room, ok := g.Room()
		if !ok {
			room = -mib
		}
		if room != c.room*mib {
			t.Errorf("%s: room for %d bytes, want %d MiB", name, room, c.room)
		}
	}
	if _, err := Find(fstest.MapFS{}); err == nil {
		t.Error("no error without /proc")
	}
}

// FuzzFind: whatever the files say, the room is a number of bytes that can be divided.
func FuzzFind(f *testing.F) {
	f.Add("4:memory:/a/b", v1, "209715200", "total_shmem 5")
	f.Add("0::/a/../..", v2, "max", "kernel 18446744073709551615\nsock 18446744073709551615")
	f.Fuzz(func(t *testing.T, own, mounts, limit, stat string) {
		root := fstest.MapFS{
			"proc/self/cgroup":    {Data: []byte(own)},
			"proc/self/mountinfo": {Data: []byte(mounts)},
		}
		for _, dir := range []string{"", "a/", "memory/", "memory/a/"} {
			for _, name := range []string{"memory.max", "memory.limit_in_bytes"} {
				root["sys/fs/cgroup/"+dir+name] = &fstest.MapFile{Data: []byte(limit)}
			}
			root["sys/fs/cgroup/"+dir+"memory.stat"] = &fstest.MapFile{Data: []byte(stat)}
		}
		g, err := Find(root)
		if err != nil {
			t.Fatal(err)
		}
		if len(g.levels) > 2*maxLevels {
			t.Errorf("%d levels", len(g.levels))
		}
		if room, ok := g.Room(); ok && (room < 0 || room > unlimited) {
			t.Errorf("room for %d bytes", room)
		}
	})
}

func TestProcesses(t *testing.T) {
	const pids = "36 31 0:33 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids\n"
	for name, c := range map[string]struct {
		own, mounts string
		files       map[string]string
		room        int64 // -1 is no limit
	}{
		"v2":        {"0::/a/b", v2, map[string]string{"a/pids.max": "100", "a/pids.current": "90", "a/b/pids.max": "50\n", "a/b/pids.current": "20\n"}, 10},
		"v2 beyond": {"0::/a", v2, map[string]string{"a/pids.max": "10", "a/pids.current": "11"}, 0},
		"v2 max":    {"0::/a", v2, map[string]string{"a/pids.max": "max", "a/pids.current": "11"}, -1},
		"v1":        {"8:pids:/a\n4:memory:/a", v1 + pids, map[string]string{"pids/a/pids.max": "12", "pids/a/pids.current": "5"}, 7},
		"none":      {"4:memory:/a", v1, nil, -1},
		"garbage":   {"0::/a", v2, map[string]string{"a/pids.max": "10", "a/pids.current": "many"}, -1},
	} {
		root := fstest.MapFS{"proc/self/cgroup": {Data: []byte(c.own)}, "proc/self/mountinfo": {Data: []byte(c.mounts)}}
		for f, data := range c.files {
			root["sys/fs/cgroup/"+f] = &fstest.MapFile{Data: []byte(data)}
		}
		g, err := FindPids(root)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		room, ok := g.Processes()
		if !ok {
			room = -1
		}
		if room != c.room {
			t.Errorf("%s: room for %d, want %d", name, room, c.room)
		}
	}
}
