package rig

import (
	"cmp"
	"context"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Wrk is one way to run the load generator wrk.
type Wrk struct {
	Connections int
	Threads     int    // 2 if 0
	Header      string // one more field of every request, if not ""
	Script      string // path of a Lua script, if not ""
}

// Run puts the load on a URL and returns the requests that were answered. An
// answer that is an error, of the socket or by its status, fails it.
func (w Wrk) Run(ctx context.Context, url string, d time.Duration) (int, error) {
	// What is slow is not lost, least of all where the machine has other work to do.
	args := []string{fmt.Sprintf("-t%d", cmp.Or(w.Threads, 2)), "--timeout", "10s", fmt.Sprintf("-c%d", w.Connections), fmt.Sprintf("-d%ds", max(1, int(d.Seconds())))}
	if w.Header != "" {
		args = append(args, "-H", w.Header)
	}
	if w.Script != "" {
		args = append(args, "-s", w.Script)
	}
	out, err := exec.CommandContext(ctx, "wrk", append(args, url)...).CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("wrk: %w\n%s", err, out)
	}
	return wrkAnswered(out)
}

// What wrk prints that matters. This package is in the server, too, for `bench`: it is to cost
// nothing when the server starts.
var (
	wrkRequests = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`(?m)^\s*(\d+) requests in`) })
	wrkErrors   = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`(?m)^\s*(Socket errors|Non-2xx).*$`) })
)

// wrkAnswered reads what wrk has printed.
func wrkAnswered(out []byte) (int, error) {
	// wrk counts a server's close, when asked for, as no error.
	if bad := wrkErrors().Find(out); bad != nil {
		return 0, fmt.Errorf("wrk met errors: %s", strings.TrimSpace(string(bad)))
	}
	m := wrkRequests().FindSubmatch(out)
	if m == nil {
		return 0, fmt.Errorf("wrk says no number of requests:\n%s", out)
	}
	n, err := strconv.Atoi(string(m[1]))
	if err != nil || n == 0 {
		return 0, fmt.Errorf("wrk did %s requests", m[1])
	}
	return n, nil
}

// WrkVersion is the first line of `wrk -v`, which ends with status 1.
func WrkVersion() string {
	out, _ := exec.Command("wrk", "-v").CombinedOutput()
	version, _, _ := strings.Cut(string(out), " Copyright")
	return strings.TrimSpace(version)
}
