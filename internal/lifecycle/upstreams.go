package lifecycle

import (
	"time"

	"reuseportd/internal/config"
	"reuseportd/internal/control"
	"reuseportd/internal/upstream"
)

// upstreams describes those of the serving configuration, as the board has them.
func (c *Core) upstreams() []control.Upstream {
	conf := c.Conf()
	if conf == nil {
		return nil
	}
	var all []control.Upstream
	for i := range conf.Upstreams {
		all = append(all, c.upstreamStatus(&conf.Upstreams[i]))
	}
	return all
}

func (c *Core) upstreamStatus(u *config.Upstream) control.Upstream {
	counts := c.board.Upstream(u.Name)
	out := control.Upstream{
		Name: u.Name, Balance: string(u.Balance), Servers: []control.Server{},
		Sessions: counts.Sessions, TurnedAway: counts.TurnedAway, Retries: counts.Retries, DNSFailures: counts.DNSFailures,
	}
	for _, s := range c.board.Snapshot(u.Name) {
		cs := control.Server{
			Address: s.Address, Name: s.Name, State: s.State.String(), Since: known(s.Since), Until: known(s.Until),
			Weight: s.Weight, Backup: s.Backup, InUse: s.InUse, MaxConnections: s.MaxConnections,
			Sessions: s.Sessions, Connects: s.Connects, Failures: make(map[string]uint64),
			Retries: s.Retries, Ejections: s.Ejections, Full: s.Full,
			ChecksOK: s.ChecksOK, ChecksFailed: s.ChecksFailed, BytesIn: s.BytesIn, BytesOut: s.BytesOut,
		}
		for r, n := range s.Failures {
			if n > 0 {
				cs.Failures[upstream.Reason(r).String()] = n
			}
		}
		out.Servers = append(out.Servers, cs)
	}
	return out
}

// known is a time that there may be.
func known(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}
