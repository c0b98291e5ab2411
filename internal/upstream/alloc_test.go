package upstream

import (
	"testing"

	"reuseportd/internal/config"
)

// What a loop calls for each session allocates nothing, whatever comes of it.
func TestAllocations(t *testing.T) {
	for _, balance := range []config.Balance{config.BalanceRoundRobin, config.BalanceLeast, config.BalanceRandom, config.BalanceHash} {
		u := app(balance, 1, 2, 3)
		u.Servers[0].MaxConnections = 1
		u.MaxFailures = 0
		c := newChooserOf(t, newSet(t, newBoard(t), nil, u), 0)
		now := int64(0)
		got := testing.AllocsPerRun(100, func() {
			now++
			var tried Tried
			for {
				s, _ := c.Pick(now, mix(uint64(now)), &tried)
				if s == nil {
					break
				}
				s.AddConnect()
				s.AddBytes(1, 1)
				c.Failed(s, now, Reset)
				c.Succeeded(s, now)
				tried.Add(s)
				c.Done(s)
			}
		})
		if got != 0 {
			t.Errorf("%s: %v allocations", balance, got)
		}
	}
}
