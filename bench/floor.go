package main

import (
	"context"
	"embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"

	"reuseportd/internal/rig"
)

// The floor is a lower bound for servers: it parses nothing and writes one answer.
//
//go:embed floor/*.c floor/*.h
var floorSources embed.FS

// floor is the one with epoll. Its churn door closes after each answer, the other one never does.
func floor(ctx context.Context, dir string) (*contender, error) {
	return newFloor(ctx, dir, "floor")
}

// uringFloor is the same with io_uring, to tell what that would gain.
func uringFloor(ctx context.Context, dir string) (*contender, error) {
	return newFloor(ctx, dir, "uring")
}

// newFloor compiles one. The error is exec.ErrNotFound where no compiler is.
func newFloor(ctx context.Context, dir, name string) (*contender, error) {
	gcc, err := exec.LookPath("gcc")
	if err != nil {
		return nil, err
	}
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		return nil, err
	}
	sources := filepath.Join(dir, name+"-sources")
	if err := os.CopyFS(sources, floorSources); err != nil {
		return nil, err
	}
	path := filepath.Join(dir, name)
	build := exec.CommandContext(ctx, gcc, "-O2", "-o", path, filepath.Join(sources, "floor", name+".c"))
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("compile %s.c: %w\n%s", name, err, out)
	}
	kept, err := rig.FreeAddress()
	if err != nil {
		return nil, err
	}
	churn, err := rig.FreeAddress()
	if err != nil {
		return nil, err
	}
	return &contender{
		Server: &rig.Server{
			Name:    name,
			Version: rig.FirstLine(exec.CommandContext(ctx, gcc, "--version")),
			Address: kept,
			Args:    []string{path, kept, churn, strconv.Itoa(floorProcesses)},
			Quit:    syscall.SIGTERM,
			Log:     path + ".log",
		},
		doors: map[door]string{doorSmall: kept, doorChurn: churn},
	}, nil
}

const floorProcesses = 2
