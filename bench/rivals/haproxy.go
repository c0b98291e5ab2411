package main

import (
	"context"
	"fmt"
	"os"

	"reuseportd/internal/rig"
)

// haproxyConf is for master-worker mode: listeners go from the old process to
// the new one through the stats socket (management guide, section 4). HAProxy
// has one worker with threads.
const haproxyConf = `global
  nbthread %[2]d
  stats socket %[1]s/haproxy.sock mode 600 level admin expose-fd listeners
defaults
  timeout connect 5s
  timeout client 300s
  timeout server 300s
  timeout tunnel 1h
frontend web
  mode http
  bind %[3]s
  http-request return status 200 content-type text/plain string "hello\n"
listen stream
  mode tcp
  bind %[4]s
  server echo %[5]s
`

func haproxy(dir, echo string) (*contender, error) {
	h, err := rig.NewHAProxy(dir)
	if err != nil {
		return nil, err
	}
	stream, err := rig.FreeAddress()
	if err != nil {
		return nil, err
	}
	c := &contender{
		Server: h.Server,
		configure: func(threads int) error {
			text := fmt.Sprintf(haproxyConf, dir, threads, h.Address, stream, echo)
			return os.WriteFile(h.Conf, []byte(text), 0o644)
		},
		master:    func(context.Context) (int, error) { return h.Master() },
		processes: 1,
		stream:    stream,
	}
	c.isWorker = func(p rig.Process) bool {
		master, err := c.master(context.Background())
		return err == nil && p.PID != master
	}
	c.reload = func(ctx context.Context) error {
		err := c.await(ctx, h.Ready)
		if err != nil {
			return fmt.Errorf("wait for the master's readiness: %w", err)
		}
		return c.anew(ctx, h.Reload)
	}
	c.upgrade, c.upgradeNote = c.reload, "a reload: the master executes its binary anew"
	return c, nil
}
