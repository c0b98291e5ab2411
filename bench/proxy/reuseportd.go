package main

import (
	"context"
	"fmt"
	"time"

	"reuseportd/internal/rig"
)

type ours struct{ *rig.Reuseportd }

func newReuseportd(ctx context.Context, dir, binary string) (ours, error) {
	r, err := rig.NewReuseportd(ctx, dir, binary)
	return ours{r}, err
}

// reuseportdConf is more than rig's configuration has, which ends within listeners.
const reuseportdConf = `  - name: bulk
    address: %[1]s
    tcp: {upstream: bulk}
  - name: tcp
    address: %[2]s
    tcp: {upstream: echo}
  - name: proxied
    address: %[3]s
    http: {routes: [{proxy: {upstream: web}}]}
upstreams:
  - {name: bulk, servers: [{address: %[4]q}]}
  - {name: echo, servers: [{address: %[5]q}]}
  - {name: web, servers: [{address: %[6]q}]}
`

func (r ours) configure(b *behind) (*proxy, error) {
	a, err := addresses()
	if err != nil {
		return nil, err
	}
	r.Tail = fmt.Sprintf(reuseportdConf, a[0], a[1], a[2], b.bulk, b.echo(), b.http)
	return &proxy{Server: r.Server, bulk: a[0], tcp: a[1], web: a[2]}, r.Configure(workers, time.Second)
}

// addresses are free ones for bulk, TCP and HTTP.
func addresses() (a [3]string, err error) {
	for i := range a {
		if a[i], err = rig.FreeAddress(); err != nil {
			return a, err
		}
	}
	return a, nil
}
