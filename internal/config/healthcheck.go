package config

import (
	"strconv"
	"strings"
	"time"

	"reuseportd/internal/config/yaml"
)

// Check is how servers are asked whether they are well: by a TCP connection, or by
// an HTTP request if Path is set.
type Check struct {
	Interval, Timeout time.Duration
	Rise, Fall        int // in a row, until it counts as up or down

	Path       string
	Host       string // the field that is sent; "" is the server's address
	StatusFrom int    // the statuses that are well, both ends included
	StatusTo   int
}

var checkObject = object[Check]{at: "upstreams[].check", what: "check", fields: []field[Check]{
	{"interval", durationInto(10*time.Millisecond, func(k *Check) *time.Duration { return &k.Interval })},
	{"timeout", durationInto(time.Millisecond, func(k *Check) *time.Duration { return &k.Timeout })},
	{"rise", intInto(1, 1000, func(k *Check) *int { return &k.Rise })},
	{"fall", intInto(1, 1000, func(k *Check) *int { return &k.Fall })},
	{"http", func(d *decoder, n *yaml.Node, k *Check) {
		k.Path, k.StatusFrom, k.StatusTo = "/", 200, 399
		checkHTTPObject.read(d, n, k)
	}},
}}

var checkHTTPObject = object[Check]{at: "upstreams[].check.http", what: "http of a check", fields: []field[Check]{
	{"path", readCheckPath},
	{"host", hostFieldInto(func(k *Check) *string { return &k.Host })},
	{"status", readStatuses},
}}

func (d *decoder) healthCheck(n *yaml.Node) *Check {
	k := &Check{Interval: 5 * time.Second, Timeout: 2 * time.Second, Rise: 2, Fall: 3}
	g := checkObject.read(d, n, k)
	switch {
	case g == nil || k.Timeout <= k.Interval:
	case g.has("timeout"):
		d.rep.Add(g.entries["timeout"].Value.Pos, "make it at most as long", "the timeout of a check (%s) is longer than its interval (%s)",
			shortDuration(k.Timeout), shortDuration(k.Interval))
	default:
		k.Timeout = k.Interval
	}
	return k
}

// readCheckPath reads a request's target as it is sent, so percent-encoded.
func readCheckPath(d *decoder, n *yaml.Node, k *Check) {
	s, ok := d.text(n)
	if !ok {
		return
	}
	hint := ""
	switch {
	case !strings.HasPrefix(s, "/"):
		hint = "write /" + s
	case strings.Contains(s, "#"):
		hint = "remove the part from # on; it is never sent"
	case strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r >= 0x7f }):
		hint = "write what is not ASCII, and spaces, percent-encoded, as in %20"
	default:
		k.Path = s
		return
	}
	d.wrong(n, hint, "the path of a request")
}

// readStatuses reads one status, or the first and the last of several: 200-399.
func readStatuses(d *decoder, n *yaml.Node, k *Check) {
	from, to, ranged := strings.Cut(n.Text, "-")
	if !ranged {
		to = from
	}
	low, err1 := strconv.Atoi(from)
	high, err2 := strconv.Atoi(to)
	if n.Kind != yaml.Int && n.Kind != yaml.Text || err1 != nil || err2 != nil || low < 200 || high > 599 || low > high {
		d.wrong(n, "as in 204 or 200-399", "a status from 200 to 599, or the first and the last of several")
		return
	}
	k.StatusFrom, k.StatusTo = low, high
}
