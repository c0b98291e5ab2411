package lifecycle

import (
	"maps"
	"slices"

	"reuseportd/internal/control"
	"reuseportd/internal/shard"
)

// The file of a Unix socket may be removed, or replaced, while the service listens: then no client
// finds the socket any more. The master looks twice a second, retires the socket as that of a removed
// listener, and binds the path anew as soon as it is free. What is open goes on.

// keepPaths retires the sockets whose paths are lost, and binds anew what the serving
// configuration has no socket for. A change in progress does the latter itself.
func (c *Core) keepPaths() {
	if c.change != nil || c.stop {
		return
	}
	if c.retireLost() {
		c.reconcile()
		c.retireStep()
	}
	c.bindLost()
}

// retireLost retires the Unix sockets whose files somebody has removed or replaced, and
// reports whether there were any: nobody can connect to them, and a change waits for their end.
func (c *Core) retireLost() (any bool) {
	for key, g := range c.groups {
		if g.retiring != nil || !g.Lost() {
			continue
		}
		any = true
		c.log.Warn().Str("address", key).Msg("somebody has removed the socket's file, or put another in its place: it is made anew as soon as the path is free")
		if err := g.retire(0, c.now); err != nil {
			c.log.Error().Err(err).Str("address", key).Msg("retiring a lost socket")
		}
	}
	return any
}

// bindLost binds the addresses of the serving configuration that have no socket.
func (c *Core) bindLost() {
	s := c.serving()
	if s == nil || c.change != nil || c.stop {
		return
	}
	bound := false
	for i := range s.conf.Listeners {
		l := &s.conf.Listeners[i]
		if c.groups[l.Key()] != nil {
			continue
		}
		g, err := shard.NewGroup(l)
		if err == nil {
			if err = g.Bind(want(l, s.conf)); err == nil {
				err = g.Listen()
			}
		}
		if err != nil {
			if g != nil {
				_ = g.Remove()
			}
			c.complainOf(l.Key(), err.Error())
			continue
		}
		c.addGroup(g)
		bound = true
		delete(c.lost, l.Key())
		c.log.Warn().Str("address", l.Key()).Msg("the socket was made anew")
	}
	if bound {
		c.reconcile()
	}
}

// complainOf logs why an address has no socket, once for each reason.
func (c *Core) complainOf(key, problem string) {
	if c.lost[key] == problem {
		return
	}
	if c.lost == nil {
		c.lost = make(map[string]string)
	}
	c.lost[key] = problem
	c.log.Error().Str("address", key).Str("error", problem).Msg("a lost socket can't be made anew; it is tried again")
}

// lostListeners describes the addresses of the serving configuration that have no socket.
func (c *Core) lostListeners() []control.Listener {
	maps.DeleteFunc(c.lost, func(key, _ string) bool { return c.groups[key] != nil })
	s := c.serving()
	if s == nil {
		return nil
	}
	var out []control.Listener
	for _, key := range slices.Sorted(maps.Keys(c.lost)) {
		if l := s.listener(key); l != nil {
			out = append(out, control.Listener{
				Name: l.Name, Network: l.Network, Address: l.Address, Service: l.Service(), Accept: string(l.Accept), Problem: c.lost[key],
			})
		}
	}
	return out
}
