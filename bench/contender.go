package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"reuseportd/internal/rig"
)

// door is what a kind of load needs of a server.
type door string

const (
	doorSmall     door = "small"     // HTTP, the same few bytes for any request
	doorChurn     door = "churn"     // likewise, for connections of one request each
	doorPipelined door = "pipelined" // likewise, for many requests at once
	doorIdle      door = "idle"      // likewise, for thousands of connections
	doorStatic    door = "static"    // HTTP, files below /static/
	doorProxied   door = "proxied"   // HTTP, passed on to the server behind
	doorBulk      door = "bulk"      // TCP, passed on to iperf3
	doorTCP       door = "tcp"       // TCP, passed on to an echo
	doorScaling   door = "scaling"   // small, of servers with one loop and with two
	doorModels    door = "models"    // small, of servers with processes and with threads
	doorLockout   door = "lockout"   // small, of servers with few descriptors
)

// contender is one server under measurement, with an address for each load that it can take.
type contender struct {
	*rig.Server
	doors map[door]string
	// reload tells the server to reload; nil if it can't.
	reload func(context.Context) error
	// lastCut is how many connections the last reload has cut by the server's own account; nil if it keeps none.
	lastCut func(context.Context) (uint64, error)
}

const (
	ours    = "reuseportd" // the name of the contender whose ratios are told
	workers = 2            // of every server; of HAProxy and Go, threads
)

// place is what is needed to make contenders.
type place struct {
	dir    string // of this contender alone: a server's processes are known by their binary's path
	binary string // reuseportd's
	site   string // the directory below /static/
	nofile uint64 // descriptors that each of its processes may have; 0 is as many as there can be
	behind *behind
}

// entrant is how a contender is made. Its doors beyond those that it is made with lead where small does.
type entrant struct {
	name string
	make func(context.Context, place) (*contender, error)
	more []door
}

// many are the doors of a server whose small door takes everything that may come.
var many = []door{doorPipelined, doorIdle}

// entrants are in the order of columns. One that is made twice under its name is two servers with different doors.
var entrants = []entrant{
	{ours, reuseportd(loops{workers, 1}), append([]door{doorScaling, doorModels, doorFair}, many...)},
	{ours, encrypting, nil},
	{"reuseportd with defer_accept", deferring, nil},
	{"reuseportd, 1 loop", only(doorScaling, reuseportd(loops{1, 1})), nil},
	{"reuseportd, 1 process × 2 loops", only(doorModels, reuseportd(loops{1, workers})), nil},
	{ours, limited(reuseportd(loops{workers, 1})), nil},
	{"nginx", nginx(workers, ""), append([]door{doorScaling}, many...)},
	{"nginx", limited(nginx(workers, "")), nil},
	{"nginx, 1 worker", only(doorScaling, nginx(1, "")), nil},
	{"nginx, sendfile off", only(doorStatic, nginxOf(workers, "", "sendfile off;")), nil},
	{"nginx with proxy_buffer_size 64k", only(doorBulk, nginx(workers, "proxy_buffer_size 64k;")), nil},
	{"HAProxy", haproxy("", splice), append([]door{doorFair}, many...)},
	{"HAProxy", limited(haproxy("", splice)), nil},
	{"HAProxy splice-auto", only(doorBulk, haproxy("", spliceAuto)), nil},
	{"HAProxy with tune.pipesize 1 MiB", only(doorBulk, haproxy("tune.pipesize 1048576", splice)), nil},
	{"h2o", func(ctx context.Context, p place) (*contender, error) { return h2o(ctx, p.dir, p.site, p.behind.http) }, many},
	{"gnet", inGo("gnet"), many},
	{"fasthttp", inGo("fasthttp"), nil},
	{"net/http", inGo("net/http"), []door{doorIdle}},
	{floorName, func(ctx context.Context, p place) (*contender, error) { return floor(ctx, p.dir) }, nil},
	{uringName, func(ctx context.Context, p place) (*contender, error) { return uringFloor(ctx, p.dir) }, nil},
	{"io.Copy", relaying, nil},
	{direct, directly, nil},
}

const (
	floorName = "floor"
	uringName = "floor with io_uring"
	direct    = "direct" // the way without a proxy
)

func inGo(kind string) func(context.Context, place) (*contender, error) {
	return func(ctx context.Context, p place) (*contender, error) { return goServer(ctx, p.dir, kind) }
}

// only makes a contender that has one of its doors alone, or that of its small door under this name.
func only(d door, how func(context.Context, place) (*contender, error)) func(context.Context, place) (*contender, error) {
	return func(ctx context.Context, p place) (*contender, error) {
		c, err := how(ctx, p)
		if err != nil {
			return nil, err
		}
		address, ok := c.doors[d]
		if !ok {
			address = c.doors[doorSmall]
		}
		c.doors = map[door]string{d: address}
		return c, nil
	}
}

// buildName begins the names of the builds that -beside names.
const buildName = "beside "

func isBuild(name string) bool { return strings.HasPrefix(name, buildName) }

// besides are further builds of reuseportd, from a list of binaries. They take no part in scaling and models.
func besides(list string) []entrant {
	var all []entrant
	for path := range strings.SplitSeq(list, ",") {
		if path == "" {
			continue
		}
		name := fmt.Sprintf("%s%d: %s", buildName, len(all)+1, filepath.Base(path))
		all = append(all, entrant{name, func(ctx context.Context, p place) (*contender, error) {
			p.binary = path
			return reuseportd(loops{workers, 1})(ctx, p)
		}, many})
	}
	return all
}

// contenders makes all contenders, each in a directory of its own, and starts none. It reports those that
// aren't available.
func contenders(ctx context.Context, p place, o options) ([]*contender, error) {
	var all []*contender
	base := p.dir
	for i, e := range slices.Insert(slices.Clone(entrants), 1, besides(o.beside)...) {
		if e.name == uringName && !o.uring {
			continue
		}
		// Nothing that a configuration file would have to quote.
		p.dir = filepath.Join(base, fmt.Sprint("contender", i))
		if err := os.Mkdir(p.dir, 0o755); err != nil {
			return nil, err
		}
		c, err := e.make(ctx, p)
		switch {
		case errors.Is(err, exec.ErrNotFound) && e.name != ours:
			fmt.Fprintf(os.Stderr, "bench: without %s: %v\n", e.name, err)
			continue
		case err != nil:
			return nil, fmt.Errorf("%s: %w", e.name, err)
		}
		c.Name = e.name
		for _, d := range e.more {
			c.doors[d] = c.doors[doorSmall]
		}
		all = append(all, c)
	}
	return all, nil
}
