package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// load is one way to run wrk.
type load struct{ name, header string }

// measureCPU gives two rows: CPU time of a request, and requests a second,
// which says more of the load generator on a small machine than of the server.
func measureCPU(ctx context.Context, o options, l load, all []*contender) ([]row, error) {
	cpu := newRow(l.name, "µs", len(all))
	rate := newRow("   its rate, with wrk on the same CPUs", "/s", len(all))
	for round := -1; round < o.rounds; round++ {
		for i := range all {
			i := (i + max(round, 0)) % len(all) // nobody is always first
			duration := o.duration
			if round < 0 {
				duration = time.Second // to warm up
			}
			before := all[i].cpu()
			n, err := wrk(ctx, o, l, all[i].address, duration)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", all[i].name, err)
			}
			if round < 0 {
				continue
			}
			used := all[i].cpu() - before
			cpu.add(i, float64(used)/float64(time.Microsecond)/float64(n))
			rate.add(i, float64(n)/duration.Seconds())
		}
	}
	return []row{cpu, rate}, nil
}

var (
	wrkRequests = regexp.MustCompile(`(?m)^\s*(\d+) requests in`)
	wrkErrors   = regexp.MustCompile(`(?m)^\s*(Socket errors|Non-2xx).*$`)
)

// wrk runs a load and returns the requests that were answered.
func wrk(ctx context.Context, o options, l load, address string, d time.Duration) (int, error) {
	args := []string{"-t2", fmt.Sprintf("-c%d", o.connections), fmt.Sprintf("-d%ds", max(1, int(d.Seconds())))}
	if l.header != "" {
		args = append(args, "-H", l.header)
	}
	out, err := exec.CommandContext(ctx, "wrk", append(args, "http://"+address+"/")...).CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("wrk: %w\n%s", err, out)
	}
	// wrk counts a server's close, when asked for, as no error.
	if bad := wrkErrors.Find(out); bad != nil {
		return 0, fmt.Errorf("wrk met errors: %s", strings.TrimSpace(string(bad)))
	}
	m := wrkRequests.FindSubmatch(out)
	if m == nil {
		return 0, fmt.Errorf("wrk says no number of requests:\n%s", out)
	}
	n, err := strconv.Atoi(string(m[1]))
	if err != nil || n == 0 {
		return 0, fmt.Errorf("wrk did %s requests", m[1])
	}
	return n, nil
}

// measureMemory gives the private memory that one idle kept connection adds,
// after one request on it. What the kernel holds for its socket is not in it.
func measureMemory(ctx context.Context, o options, all []*contender) (row, error) {
	r := newRow(fmt.Sprintf("private memory, one of %d idle kept connections", o.idle), "bytes", len(all))
	for i, c := range all {
		before, err := c.private()
		if err != nil {
			return r, err
		}
		conns, err := openIdle(ctx, c.address, o.idle)
		if err == nil {
			var after int
			if after, err = c.private(); err == nil {
				r.add(i, float64(after-before)/float64(o.idle))
			}
		}
		for _, conn := range conns {
			conn.Close()
		}
		if err != nil {
			return r, fmt.Errorf("%s: %w", c.name, err)
		}
	}
	return r, nil
}

// openIdle opens n connections and has one request answered on each.
func openIdle(ctx context.Context, address string, n int) ([]net.Conn, error) {
	var d net.Dialer
	var conns []net.Conn
	request := "GET / HTTP/1.1\r\nHost: " + address + "\r\n\r\n"
	r := bufio.NewReader(nil)
	for len(conns) < n {
		conn, err := d.DialContext(ctx, "tcp", address)
		if err != nil {
			return conns, err
		}
		conns = append(conns, conn)
		if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
			return conns, err
		}
		if _, err := io.WriteString(conn, request); err != nil {
			return conns, err
		}
		r.Reset(conn)
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			return conns, err
		}
		_, err = io.Copy(io.Discard, resp.Body)
		if err != nil || resp.Close {
			return conns, fmt.Errorf("connection %d was not kept (%v)", len(conns), err)
		}
	}
	return conns, nil
}

// measureReload gives the time of a reload by the server's own account.
func measureReload(ctx context.Context, o options, all []*contender) (row, error) {
	r := newRow("reload, to the new generation's serving", "ms", len(all))
	for i, c := range all {
		if c.reload == nil {
			continue
		}
		for range o.reloads {
			ms, err := c.reload(ctx)
			if err != nil {
				return r, fmt.Errorf("%s: %w", c.name, err)
			}
			r.add(i, ms)
		}
	}
	return r, nil
}

// reloadReceipt runs `reuseportd reload --json`.
func reloadReceipt(cmd *exec.Cmd) (float64, error) {
	out, err := cmd.Output()
	if err != nil {
		return 0, fmt.Errorf("%w: %s", err, out)
	}
	var receipt struct {
		OK      bool    `json:"ok"`
		Error   string  `json:"error"`
		ReadyMS float64 `json:"ready_ms"`
	}
	if err := json.Unmarshal(out, &receipt); err != nil {
		return 0, fmt.Errorf("receipt: %w", err)
	}
	if !receipt.OK {
		return 0, fmt.Errorf("receipt: %s", receipt.Error)
	}
	return receipt.ReadyMS, nil
}
