package sockdiag

import (
	"errors"

	"golang.org/x/sys/unix"
)

// Table is the listening TCP sockets of the network namespace at one moment, so that one request
// serves for many addresses.
type Table struct {
	ports [2]map[uint16][]Socket // of IPv4 and IPv6
	errs  [2]error
}

// maxTable bounds the sockets of a family in a Table: any local user can make as many as there are pairs of port and
// loopback address.
const maxTable = 1 << 16

var errTable = errors.New("there are too many listening sockets to look through")

// Listening asks the kernel for all of them.
func Listening() *Table {
	t := new(Table)
	for i, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		t.ports[i] = make(map[uint16][]Socket)
		kept := 0
		err := TCP(family, Listen, 0, func(s Socket) {
			if kept++; kept <= maxTable {
				t.ports[i][s.Local.Port()] = append(t.ports[i][s.Local.Port()], s)
			}
		})
		if kept > maxTable && err == nil {
			err = errTable
		}
		t.errs[i] = err
	}
	return t
}

// Each calls f for each socket of a family and port, as TCP does. It returns an error if the
// kernel couldn't be asked.
func (t *Table) Each(family uint8, port uint16, f func(Socket)) error {
	i := 0
	if family == unix.AF_INET6 {
		i = 1
	}
	for _, s := range t.ports[i][port] {
		f(s)
	}
	return t.errs[i]
}
