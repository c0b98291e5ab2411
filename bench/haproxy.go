package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"reuseportd/internal/rig"
)

// haproxyConf is for master-worker mode: at a reload, listeners go from the old process to the new one through the
// stats socket (management guide, section 4). Of the options for splicing, those that always splice are cheaper than
// splice-auto, whose heuristics seldom do. maxconn by itself is half of the descriptor limit, as if all was proxied; where
// that is to be met, the manual says to leave it out (configuration manual, "maxconn").
const haproxyConf = `global
  nbthread %[1]d
  %[12]s
  no strict-limits
  stats socket %[2]s/stats.sock mode 600 level admin expose-fd listeners
  %[3]s
defaults
  timeout connect 5s
  timeout client 1h
  timeout server 1h
frontend small
  mode http
  bind %[4]s
  http-request return status 200 content-type text/plain string "hello\n"
listen proxied
  mode http
  bind %[5]s
  http-reuse always
  server s %[6]s
listen bulk
  mode tcp
  bind %[7]s
  %[8]s
  server s %[9]s
listen tcp
  mode tcp
  bind %[10]s
  option splice-auto
  server s %[11]s
`

const (
	splice     = "option splice-request\n  option splice-response"
	spliceAuto = "option splice-auto"
)

func haproxy(global, splicing string) func(context.Context, place) (*contender, error) {
	return func(_ context.Context, p place) (*contender, error) {
		h, err := rig.NewHAProxy(p.dir)
		if err != nil {
			return nil, err
		}
		if err := ownBinary(h.Server, p.dir); err != nil {
			return nil, err
		}
		a, err := addresses(3)
		if err != nil {
			return nil, err
		}
		c := &contender{Server: h.Server, doors: map[door]string{
			doorSmall: h.Address, doorChurn: h.Address, doorProxied: a[0], doorBulk: a[1], doorTCP: a[2],
		}}
		c.reload = func(ctx context.Context) error { return haproxyReload(ctx, h) }
		h.NoFile = p.nofile
		maxconn := "maxconn 15000"
		if p.nofile > 0 {
			maxconn = ""
		}
		text := fmt.Sprintf(haproxyConf, workers, p.dir, global, h.Address,
			a[0], p.behind.http, a[1], splicing, p.behind.bulk, a[2], p.behind.echo(), maxconn)
		return c, os.WriteFile(h.Conf, []byte(text), 0o644)
	}
}

// haproxyReload waits until the master is ready for it.
func haproxyReload(ctx context.Context, h *rig.HAProxy) error {
	for end := time.Now().Add(5 * time.Second); !h.Ready(); {
		if time.Now().After(end) {
			return errors.New("HAProxy's master is not ready after five seconds")
		}
		if err := rig.Sleep(ctx, 5*time.Millisecond); err != nil {
			return err
		}
	}
	return h.Reload()
}
