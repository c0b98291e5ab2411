package upstream

// hold gives a name its entry, and the addresses known for it, since it may not be possible
// to look it up when a worker starts. Addresses that nobody has looked up for ten minutes
// are forgotten.
func (p *pool) hold(n *name, now int64) {
	k, before := key{ofName, p.conf.Name, n.conf.Address}, int64(0)
	if b := p.set.board; b != nil {
		if i := b.find(&k); i >= 0 {
			before = b.entries[i].touched.Load()
		}
	}
	var i int
	n.state, i = p.set.entry(&k, now)
	n.id, n.shared = n.state.id.Load(), i >= 0
	n.state.order.Store(n.order)
	if !n.shared || !n.conf.Named || n.since > 0 || now-before > stale {
		return
	}
	if !p.heed(n) {
		n.targets = p.set.board.lately(p.conf.Name, n.conf.Address, now)
	}
}

// heed takes over the last answer that any worker has got, and reports whether it is later
// than n's.
func (p *pool) heed(n *name) bool {
	if !n.shared || !n.conf.Named {
		return false
	}
	targets, asked, ok := p.set.board.last(n)
	if !ok || asked <= n.since {
		return false
	}
	n.targets, n.since = targets, asked
	return true
}

// keepName keeps a name's entry, or gets a new one, and reports whether the name's
// addresses have changed.
func (p *pool) keepName(n *name, now int64) bool {
	if n.shared && n.state.id.Load() != n.id {
		p.hold(n, now)
		p.recordLast(n)
	}
	n.state.touched.Store(now)
	return p.heed(n)
}

// recordLast makes n's addresses the last answer for all workers.
func (p *pool) recordLast(n *name) {
	if !n.shared || !n.conf.Named {
		return
	}
	var servers []*Server
	for _, t := range n.targets {
		if s := p.servers[t.name]; s != nil {
			servers = append(servers, s)
		}
	}
	p.set.board.record(n, servers)
}
