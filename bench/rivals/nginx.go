package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"reuseportd/internal/rig"
)

func nginx(dir, echo string) (*contender, error) {
	dir = filepath.Join(dir, "nginx")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	n, err := rig.NewNginx(dir)
	if err != nil {
		return nil, err
	}
	c := &contender{
		Server:    n.Server,
		configure: n.Configure,
		master:    func(context.Context) (int, error) { return n.Master("") },
		isWorker:  func(p rig.Process) bool { return strings.HasPrefix(p.Command, "nginx: worker process") },
		processes: startWorkers,
	}
	c.reload = func(ctx context.Context) error {
		return c.anew(ctx, func() error { return c.signal(ctx, syscall.SIGHUP) })
	}
	c.upgrade = func(ctx context.Context) error { return nginxUpgrade(ctx, c, n) }
	c.upgradeNote = "USR2, WINCH, QUIT"
	if _, err := os.Stat(rig.NginxStream); err != nil {
		return c, nil // no stream
	}
	if c.stream, err = rig.FreeAddress(); err != nil {
		return nil, err
	}
	n.Head = "load_module " + rig.NginxStream + ";\n"
	n.Tail = fmt.Sprintf("stream { server { listen %s reuseport; proxy_pass %s; proxy_timeout 1h; } }\n", c.stream, echo)
	return c, nil
}

// nginxUpgrade is "Upgrading Executable on the Fly" of nginx's manual
// (nginx.org/en/docs/control.html).
func nginxUpgrade(ctx context.Context, c *contender, n *rig.Nginx) error {
	old, err := n.Master("")
	if err != nil {
		return err
	}
	before := c.workers()
	if err := c.signal(ctx, syscall.SIGUSR2); err != nil {
		return err
	}
	err = c.await(ctx, func() bool {
		pid, err := n.Master("")
		return err == nil && pid != old && len(without(c.workers(), before)) == c.processes
	})
	if err != nil {
		return fmt.Errorf("start the new binary: %w", err)
	}
	if err := syscall.Kill(old, syscall.SIGWINCH); err != nil {
		return err
	}
	err = c.await(ctx, func() bool { return len(common(c.workers(), before)) == 0 })
	if err != nil {
		return fmt.Errorf("end the old workers: %w", err)
	}
	if err := syscall.Kill(old, syscall.SIGQUIT); err != nil {
		return err
	}
	err = c.await(ctx, func() bool {
		_, err := n.Master(".oldbin")
		return errors.Is(err, fs.ErrNotExist)
	})
	if err != nil {
		return fmt.Errorf("end the old master: %w", err)
	}
	return nil
}
