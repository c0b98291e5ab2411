package hostile

import "reuseportd/test/harness"

// loot is what a hostile worker has.
type loot struct {
	*harness.Loot
	pid, slot  int
	generation uint64
}

// rob takes a worker's descriptors.
func rob(pid, slot int, generation uint64) (*loot, error) {
	l, err := harness.Rob(pid)
	return &loot{l, pid, slot, generation}, err
}
