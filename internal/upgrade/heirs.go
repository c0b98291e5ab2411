package upgrade

// introduceHeirs brings every draining worker together with those of the serving
// generation that are to take its connections. Like the leases, that is computed
// anew after every event: a heir that dies is replaced by its neighbour and then by
// its replacement, and a worker that was draining already gets heirs of the
// newest generation.
func (c *core) introduceHeirs() {
	s := c.serving()
	if s == nil || s.state != serving || c.stop {
		return
	}
	var heirs []*worker
	for _, w := range s.workers {
		if w.state == serving {
			heirs = append(heirs, w)
		}
	}
	for _, g := range c.gens {
		if g.state != draining {
			continue
		}
		for i, from := range g.workers {
			if from.state != draining || from.proc == nil {
				continue
			}
			for _, to := range heirsOf(i, len(g.workers), heirs) {
				if !from.heirs[to.pid] {
					from.heirs[to.pid] = true
					c.seq++
					c.host.Introduce(from, to, c.seq)
				}
			}
		}
	}
}

// heirsOf returns the heirs of worker i of n: each worker has at least one, each
// heir too, and the load is as even as it was.
func heirsOf(i, n int, heirs []*worker) []*worker {
	if len(heirs) == 0 {
		return nil
	}
	if len(heirs) <= n {
		return heirs[i%len(heirs):][:1]
	}
	var own []*worker
	for j := i; j < len(heirs); j += n {
		own = append(own, heirs[j])
	}
	return own
}
