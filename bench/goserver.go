package main

import (
	"context"
	"debug/buildinfo"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"reuseportd/internal/rig"
)

// goModules has the module of each kind of bench/goservers, "" for what Go itself brings.
var goModules = map[string]string{
	"gnet":     "github.com/panjf2000/gnet/v2",
	"fasthttp": "github.com/valyala/fasthttp",
	"net/http": "",
}

// goServer builds bench/goservers as the given kind's binary.
func goServer(ctx context.Context, dir, kind string) (*contender, error) {
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return nil, err
	}
	// A server's processes are known by their binary, so each kind has its own.
	path := filepath.Join(dir, strings.ReplaceAll(kind, "/", "-"))
	if err := buildGoServers(ctx, path); err != nil {
		return nil, fmt.Errorf("build bench/goservers: %w", err)
	}
	version, err := moduleVersion(path, goModules[kind])
	if err != nil {
		return nil, err
	}
	address, err := rig.FreeAddress()
	if err != nil {
		return nil, err
	}
	return &contender{
		Server: &rig.Server{
			Name:    kind,
			Version: kind + " " + version,
			Address: address,
			Args:    []string{path, kind, address},
			Quit:    syscall.SIGTERM,
			Log:     path + ".log",
		},
		doors: map[door]string{doorSmall: address, doorChurn: address},
	}, nil
}

// buildGoServers finds the sources from wherever in the module the benchmark is run.
func buildGoServers(ctx context.Context, path string) error {
	list := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "reuseportd")
	root, err := list.Output()
	if err != nil {
		return fmt.Errorf("%v: %w%s", list.Args, err, stderrOf(err))
	}
	dir := filepath.Join(strings.TrimSpace(string(root)), "bench", "goservers")
	return rig.Build(ctx, path, dir, ".", "-tags", "poll_opt")
}

// stderrOf is what a failed command has printed to its standard error.
func stderrOf(err error) string {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return "\n" + string(exit.Stderr)
	}
	return ""
}

// moduleVersion is the version that a binary has of a module, of Go's if that is "".
func moduleVersion(binary, module string) (string, error) {
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		return "", err
	}
	if module == "" {
		return info.GoVersion, nil
	}
	for _, d := range info.Deps {
		if d.Path == module {
			return d.Version, nil
		}
	}
	return "", fmt.Errorf("%s has no %s in it", binary, module)
}
