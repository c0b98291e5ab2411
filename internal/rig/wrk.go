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

// Run puts the load on a URL and returns the requests that were answered. It returns an
// error if there was a socket error or an error status.
func (w Wrk) Run(ctx context.Context, url string, d time.Duration) (int, error) {
	// A slow answer isn't a lost one, least of all on a busy machine.
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

// What wrk prints that matters. Compiled when needed, since the server contains this package,
// too, for `bench`, and its start should cost nothing.
var (
	wrkRequests = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`(?m)^\s*(\d+) requests in`) })
	wrkErrors   = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`(?m)^\s*(Socket errors|Non-2xx).*$`) })
)

// wrkAnswered reads what wrk has printed.
func wrkAnswered(out []byte) (int, error) {
	// A close that was asked for isn't counted as an error by wrk.
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

// WrkVersion returns the first line of `wrk -v`, which exits with status 1.
func WrkVersion() string {
	out, _ := exec.Command("wrk", "-v").CombinedOutput()
	version, _, _ := strings.Cut(string(out), " Copyright")
	return strings.TrimSpace(version)
}
