package meter

import (
	"os"
	"strconv"
	"strings"
)

// synRetrans reads TcpExt TCPSynRetrans of this network namespace
// (/proc/net/netstat: a line of names and a line of values), 0 if it can't.
func synRetrans() uint64 {
	data, err := os.ReadFile("/proc/net/netstat")
	if err != nil {
		return 0
	}
	var names []string
	for line := range strings.Lines(string(data)) {
		f := strings.Fields(line)
		if len(f) == 0 || f[0] != "TcpExt:" {
			continue
		}
		if names == nil {
			names = f
			continue
		}
		for i, name := range names {
			if name == "TCPSynRetrans" && i < len(f) {
				n, _ := strconv.ParseUint(f[i], 10, 64)
				return n
			}
		}
	}
	return 0
}
