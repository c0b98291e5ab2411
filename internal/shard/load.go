package shard

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"reuseportd/internal/load"
)

// Load steers new connections to the loops of a generation that are running and have the
// least to do, by an eBPF program that reads what they publish. All groups of the
// generation share it. It belongs to the master's goroutine.
//
// The program returns an index, as the classic ones do, and refers to no socket. The
// alternative, BPF_MAP_TYPE_REUSEPORT_SOCKARRAY, allows a socket in one map only, so that
// the successor of a killed master could not make its own. The kernel keeps the table as
// long as the program, and the program as long as the group, even without a master.
type Load struct {
	*load.Table
	table    *ebpf.Map
	programs map[int]*ebpf.Program // by the number of shards
}

// tableName also names the layout of load.Entry: another layout needs another name.
const tableName = "rpd_load_1"

// NewLoad makes a table of slots, none of them served, and the program for it. It needs
// CAP_BPF and Linux 5.8; an error says what is missing, in words for a person.
func NewLoad(slots int) (*Load, error) {
	table, err := newTable(slots)
	if err != nil {
		return nil, explain("make a table for eBPF", err)
	}
	l, err := makeLoad(table, slots)
	if err != nil {
		return nil, err
	}
	if _, err := l.program(slots); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// newTable makes the map. Kernels before 5.11 count it as locked memory.
func newTable(slots int) (*ebpf.Map, error) {
	spec := &ebpf.MapSpec{
		Name: tableName, Type: ebpf.Array, Flags: unix.BPF_F_MMAPABLE,
		KeySize: 4, ValueSize: uint32(load.Size), MaxEntries: uint32(slots),
	}
	table, err := ebpf.NewMap(spec)
	if err == nil || !errors.Is(err, unix.EPERM) || !mayBPF() {
		return table, err
	}
	var old unix.Rlimit
	if unix.Prlimit(0, unix.RLIMIT_MEMLOCK, &unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY}, &old) != nil {
		return nil, err
	}
	table, err = ebpf.NewMap(spec)
	_ = unix.Prlimit(0, unix.RLIMIT_MEMLOCK, &old, nil)
	return table, err
}

// AdoptLoad uses the table that an earlier master has made. It takes over fd, and closes
// it if it fails.
func AdoptLoad(fd, slots int) (*Load, error) {
	table, err := ebpf.NewMapFromFD(fd)
	if err != nil {
		return nil, fmt.Errorf("adopt a table for eBPF: %w", err)
	}
	info, err := table.Info()
	if err == nil && (info.Name != tableName || table.ValueSize() != uint32(load.Size) || table.MaxEntries() < uint32(slots)) {
		err = fmt.Errorf("%s with %d entries of %d bytes is another release's", info.Name, table.MaxEntries(), table.ValueSize())
	}
	if err != nil {
		_ = table.Close()
		return nil, fmt.Errorf("adopt a table for eBPF: %w", err)
	}
	return makeLoad(table, slots)
}

// ID returns the kernel's number of the table, 0 if unknown.
func (l *Load) ID() uint32 {
	id, err := LoadID(l.FD())
	if err != nil {
		return 0
	}
	return id
}

// LoadID returns the kernel's number of a BPF map, whoever made it. No other map has the
// same number while it exists. It needs no privilege.
func LoadID(fd int) (uint32, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", fd))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if number, ok := strings.CutPrefix(line, "map_id:"); ok {
			id, err := strconv.ParseUint(strings.TrimSpace(number), 10, 32)
			return uint32(id), err
		}
	}
	return 0, errors.New("it is no BPF map")
}

// makeLoad maps the table, which it takes over.
func makeLoad(table *ebpf.Map, slots int) (*Load, error) {
	fd, err := unix.FcntlInt(uintptr(table.FD()), unix.F_DUPFD_CLOEXEC, 3)
	var mapped *load.Table
	if err == nil {
		mapped, err = load.Open(fd, slots)
	}
	if err != nil {
		_ = table.Close()
		return nil, err
	}
	return &Load{Table: mapped, table: table, programs: make(map[int]*ebpf.Program)}, nil
}

// program returns the descriptor of the program for the first n shards.
func (l *Load) program(n int) (int, error) {
	if n > l.Len() {
		return -1, fmt.Errorf("%d shards, but the load of %d slots is known", n, l.Len())
	}
	if p := l.programs[n]; p != nil {
		return p.FD(), nil
	}
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "rpd_load", Type: ebpf.SocketFilter, Instructions: loadProgram(l.table.FD(), n),
	})
	if err != nil {
		return -1, explain("load the eBPF program", err)
	}
	l.programs[n] = p
	return p.FD(), nil
}

// Close closes the table and the programs. A group to which a program is attached keeps
// both.
func (l *Load) Close() error {
	errs := []error{l.Table.Close(), l.table.Close()}
	for _, p := range l.programs {
		errs = append(errs, p.Close())
	}
	return errors.Join(errs...)
}

// explain says why the kernel refuses, as far as that can be found out.
func explain(what string, err error) error {
	switch {
	case !mayBPF():
		return fmt.Errorf("%s: this process has no CAP_BPF: %w", what, unix.EPERM)
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("%s: %w, in spite of CAP_BPF: it takes effect only outside user namespaces, and seccomp filters and lockdown refuse too", what, unix.EPERM)
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOSYS), errors.Is(err, ebpf.ErrNotSupported):
		return fmt.Errorf("%s: the kernel may be older than Linux 5.8: %w", what, err)
	}
	return fmt.Errorf("%s: %w", what, err)
}

// mayBPF reports whether this process has CAP_BPF, or CAP_SYS_ADMIN, which includes it;
// capabilities(7).
func mayBPF() bool {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if unix.Capget(&hdr, &data[0]) != nil {
		return false
	}
	return data[0].Effective&(1<<unix.CAP_SYS_ADMIN) != 0 || data[1].Effective&(1<<(unix.CAP_BPF-32)) != 0
}
