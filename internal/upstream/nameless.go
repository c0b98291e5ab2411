package upstream

// Nameless returns the names of servers that stand for no address so far, so that these servers aren't
// used. One that can't be looked up goes on with what was known before, by whichever worker.
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
