package upstream

// Nameless returns the names of servers that have no address yet, so that they aren't used. A name
// that can't be looked up keeps the addresses that any worker found before.
func (s *Set) Nameless() (names []string) {
	for _, p := range s.order {
		p.mu.Lock()
		for _, n := range p.names {
			if n != nil && len(n.targets) == 0 {
				names = append(names, n.conf.Address)
			}
		}
		p.mu.Unlock()
	}
	return names
}
