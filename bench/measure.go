package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"reuseportd/internal/rig"
)

// measure runs the chosen loads, and writes all results so far after each.
func measure(ctx context.Context, o options) (*report, error) {
	chosen, err := choose(o.only)
	if err != nil {
		return nil, err
	}
	r := &report{Machine: rig.Machine()}
	if o.only != "" {
		earlier, err := readReport(o.output)
		if err == nil && earlier != nil {
			err = r.merge(earlier)
		}
		if err != nil {
			return nil, err
		}
	}
	if err := equip(ctx, idlers+1000, rivals...); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "rpbench")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	b, p, err := prepare(ctx, dir, o)
	if err != nil {
		return nil, err
	}
	if b.all, err = contenders(ctx, p, o); err != nil {
		return nil, err
	}
	defer p.behind.stop()
	if err := p.behind.start(ctx); err != nil {
		return nil, err
	}
	r.Versions = b.versions(p.behind, r.Versions)
	return r, b.measureAll(ctx, chosen, r)
}

// rivals are the packages of the other contenders and of the load generators.
var rivals = []rig.Package{
	rig.NginxPackage, rig.NginxStreamPackage, rig.HAProxyPackage, rig.IperfPackage,
	{Name: "h2o", Brings: "h2o"},
	{Name: "gcc", Brings: "gcc"},
	{Name: "libc6-dev", Brings: "/usr/include/stdio.h"},
}

// equip gets what this process needs: descriptors, wrk, and further packages if they are available.
func equip(ctx context.Context, descriptors uint64, packages ...rig.Package) error {
	if n := rig.RaiseLimit(); n < descriptors {
		return fmt.Errorf("the connections need a descriptor limit of %d, and it is %d: raise `ulimit -Hn`", descriptors, n)
	}
	rig.Install(ctx, "bench", append(packages, rig.WrkPackage)...)
	if _, err := exec.LookPath("wrk"); err != nil {
		return err
	}
	return rig.Adopt()
}

// prepare makes what contenders need, and starts nothing.
func prepare(ctx context.Context, dir string, o options) (b *bench, p place, err error) {
	if p.dir, err = filepath.EvalSymlinks(dir); err != nil {
		return nil, p, err
	}
	if err := os.Chmod(p.dir, 0o755); err != nil { // nginx's workers are another user
		return nil, p, err
	}
	b = &bench{o: o}
	if b.script, err = writeScript(p.dir); err != nil {
		return nil, p, err
	}
	if p.site, err = newSite(p.dir); err != nil {
		return nil, p, err
	}
	if p.behind, err = newBehind(ctx, p.dir, o.server); err != nil {
		return nil, p, err
	}
	p.binary = p.behind.servers[0].Args[0]
	return b, p, nil
}

// versions adds those of everything that is used to others.
func (b *bench) versions(behind *behind, all []string) []string {
	add := func(v string) {
		if v != "" && !slices.Contains(all, v) {
			all = append(all, v)
		}
	}
	for _, c := range b.all {
		add(c.Version)
	}
	for _, s := range behind.servers {
		add(s.Version)
	}
	add(rig.WrkVersion())
	return all
}

// measureAll writes the file after each load.
func (b *bench) measureAll(ctx context.Context, chosen []load, r *report) error {
	var about time.Duration
	for _, l := range chosen {
		about += l.estimate(b.o, len(l.takers(b.all)))
	}
	fmt.Fprintf(os.Stderr, "bench: %s with %s take about %v\n",
		count(len(chosen), "load"), count(len(b.all), "contender"), about.Round(time.Second))
	for _, l := range chosen {
		one, err := b.measure(ctx, l)
		if err != nil {
			return err
		}
		r.put(one)
		if err := r.write(b.o.output); err != nil {
			return err
		}
	}
	return nil
}
