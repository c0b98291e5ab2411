package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// mode is one of slowhttptest(1).
type mode struct {
	name  string
	flags []string
	path  string // that is attacked
	probe string // that polite clients ask for: of the same kind
}

// The options make each mode last all the time, with pieces so frequent that a server's timeout
// between two pieces doesn't fire.
var modes = []mode{
	{"slow headers", []string{"-H", "-i", "5"}, "/static/page", "/static/page"},
	{"slow body", []string{"-B", "-i", "5", "-s", "8192"}, "/form", "/form"},
	{"slow read", []string{"-X", "-n", "5", "-z", "32", "-w", "10", "-y", "20", "-k", "3"}, "/static/large", "/static/page"},
	{"range attack", []string{"-R", "-a", "5", "-b", "3000", "-t", "GET"}, "/static/large", "/static/page"},
}

// ownProbe is how long slowhttptest's probe waits for an answer, in seconds.
const ownProbe = "5"

// held is what slowhttptest has seen.
type held struct {
	most    int // connections open at a time
	last    int // …in the last second
	seconds int
	away    int // seconds in which its probe had no answer
}

// attack runs slowhttptest to its end: when its time is over, or nothing is left of its connections.
func (m mode) attack(ctx context.Context, address string, o options, dir string) (held, error) {
	prefix := filepath.Join(dir, "report")
	args := append([]string{
		"-c", strconv.Itoa(o.connections), "-r", strconv.Itoa(max(o.connections/3, 1)),
		"-l", strconv.Itoa(int(o.duration / time.Second)), "-p", ownProbe, "-v", "0",
		"-g", "-o", prefix, "-u", "http://" + address + m.path,
	}, m.flags...)
	cmd := exec.CommandContext(ctx, slowPackage.Brings, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // an interrupt at the terminal is for us
	out, err := cmd.CombinedOutput()
	switch {
	case ctx.Err() != nil:
		return held{}, ctx.Err()
	case err != nil:
		return held{}, fmt.Errorf("slowhttptest: %w\n%s", err, out)
	}
	report, err := os.ReadFile(prefix + ".csv")
	if err != nil {
		return held{}, fmt.Errorf("slowhttptest wrote no report: %w\n%s", err, out)
	}
	return readReport(report)
}

// readReport reads the CSV of slowhttptest 1.8: a line for each second with its number, connections
// that are closed, pending and open, and how high to draw a bar for the service being available, or 0.
func readReport(b []byte) (held, error) {
	head, lines, _ := bytes.Cut(b, []byte("\n"))
	if string(head) != "Seconds,Closed,Pending,Connected,Service Available" {
		return held{}, fmt.Errorf("slowhttptest's report begins with %q, which is not version 1.8's", head)
	}
	var h held
	for line := range strings.Lines(string(lines)) {
		fields := strings.Split(strings.TrimSpace(line), ",")
		var n [5]int
		if len(fields) != len(n) {
			return held{}, fmt.Errorf("slowhttptest's report has the line %q", line)
		}
		for i := range n {
			var err error
			if n[i], err = strconv.Atoi(fields[i]); err != nil {
				return held{}, fmt.Errorf("slowhttptest's report has the line %q: %w", line, err)
			}
		}
		h.seconds, h.last, h.most = h.seconds+1, n[3], max(h.most, n[3])
		if n[4] == 0 {
			h.away++
		}
	}
	if h.seconds == 0 {
		return held{}, errors.New("slowhttptest's report is empty")
	}
	return h, nil
}
