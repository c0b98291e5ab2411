package upstream

import (
	"math"
	"math/bits"
	"time"

	"reuseportd/internal/config"
)

// renew takes over the pool's current list.
func (c *Chooser) renew() {
	before, credits := c.list, c.credits
	c.list = c.pool.list.Load()
	n := len(c.list.servers)
	c.weights, c.credits, c.others = make([]int64, n), make([]int64, n), make([]seen, n)
	if before != nil {
		had := make(map[*Server]int64)
		for i, s := range before.servers {
			had[s] = credits[i]
		}
		for i, s := range c.list.servers {
			c.credits[i] = had[s]
		}
	}
	c.pace()
}

// pace decides how often the sessions of other loops are read: once in a turn of the loop
// or, if there are many numbers to add up, once in a millisecond.
func (c *Chooser) pace() {
	c.seenEvery = 1
	if b := c.pool.set.board; b != nil && len(c.list.servers)*b.rowsInUse() > 512 {
		c.seenEvery = int64(time.Millisecond)
	}
}

// stagger makes each loop begin its round robin with another server, so that many loops
// with few connections each don't all begin with the same one.
func (c *Chooser) stagger(number int) {
	from, to := c.tier(0)
	if from == to {
		return
	}
	for range number % min(to-from, 64) {
		for i := from; i < to; i++ {
			c.weights[i] = int64(c.list.servers[i].Conf.Weight) * whole
		}
		c.charge(c.fairest(from, to), from, to)
	}
}

// best returns the index of the server to try next, one with a weight.
func (c *Chooser) best(now int64, key uint64, from, to int) int {
	switch c.pool.conf.Balance {
	case config.BalanceLeast:
		return c.leastUsed(now, from, to)
	case config.BalanceRandom:
		return c.betterOfTwo(now, from, to)
	case config.BalanceHash:
		return c.highest(key, from, to)
	}
	return c.fairest(from, to)
}

// fairest is smooth weighted round robin, as in nginx: in each turn each server gains its
// weight, and the one with the most credit is chosen and loses the sum of all weights.
func (c *Chooser) fairest(from, to int) int {
	best := -1
	for i := from; i < to; i++ {
		if c.weights[i] > 0 && (best < 0 || c.credits[i]+c.weights[i] > c.credits[best]+c.weights[best]) {
			best = i
		}
	}
	return best
}

// charge ends a turn in which the chosen server was available.
func (c *Chooser) charge(chosen, from, to int) {
	c.turn++
	if !c.inTurns() {
		return
	}
	for i := from; i < to; i++ {
		c.credits[i] += c.weights[i]
		c.credits[chosen] -= c.weights[i]
	}
}

func (c *Chooser) inTurns() bool {
	switch c.pool.conf.Balance {
	case config.BalanceLeast, config.BalanceRandom, config.BalanceHash:
		return false
	}
	return true
}

// leastUsed returns the server that would have the fewest sessions for its weight; equal
// ones take turns.
func (c *Chooser) leastUsed(now int64, from, to int) int {
	best, n := -1, to-from
	for k := range n {
		i := from + (c.turn+k)%n
		if c.weights[i] > 0 && (best < 0 || c.lessUsed(now, i, best)) {
			best = i
		}
	}
	return best
}

// lessUsed compares two servers with one more session each: (use+1) ÷ weight.
func (c *Chooser) lessUsed(now int64, a, b int) bool {
	ahi, alo := bits.Mul64(c.use(now, a)+1, uint64(c.weights[b]))
	bhi, blo := bits.Mul64(c.use(now, b)+1, uint64(c.weights[a]))
	return ahi < bhi || ahi == bhi && alo < blo
}

// use returns how many sessions all loops have at a server. Those of other loops are as
// they were when last read.
func (c *Chooser) use(now int64, i int) uint64 {
	s, o := c.list.servers[i], &c.others[i]
	if now-o.at >= c.seenEvery || o.at == 0 {
		o.at, o.use = now, s.besides(c.row)
	}
	return o.use + uint64(s.cell(c.row).Load())
}

// betterOfTwo draws two servers by weight and takes the less used.
func (c *Chooser) betterOfTwo(now int64, from, to int) int {
	total := int64(0)
	for i := from; i < to; i++ {
		total += c.weights[i]
	}
	a := c.draw(total, from, to, -1)
	if total == c.weights[a] {
		return a
	}
	b := c.draw(total-c.weights[a], from, to, a)
	if c.lessUsed(now, b, a) {
		return b
	}
	return a
}

// draw returns a random one of the servers with weight, except without. total is the sum
// of their weights.
func (c *Chooser) draw(total int64, from, to, without int) int {
	at := int64(c.rng.Uint64() % uint64(total))
	for i := from; i < to; i++ {
		if i == without {
			continue
		}
		if at -= c.weights[i]; at < 0 {
			return i
		}
	}
	return -1 // not reached
}

// highest is weighted rendezvous hashing: each server has a number u from 0 to 1 for the key,
// and the highest weight ÷ -ln u wins. So the keys of a server that is removed go to all
// others, and no other key moves.
func (c *Chooser) highest(key uint64, from, to int) int {
	best, high, score := -1, uint64(0), 0.0 // score is 0 until it is needed
	for i := from; i < to; i++ {
		w := c.weights[i]
		if w == 0 {
			continue
		}
		u := mix(key^c.list.servers[i].hash) >> 12
		if best >= 0 && u <= high && w <= c.weights[best] {
			continue
		}
		if best < 0 || u > high && w >= c.weights[best] {
			best, high, score = i, u, 0
			continue
		}
		if score == 0 {
			score = rank(c.weights[best], high)
		}
		if r := rank(w, u); r > score {
			best, high, score = i, u, r
		}
	}
	return best
}

// rank returns weight ÷ -ln u for a u of 52 bits.
func rank(weight int64, u uint64) float64 {
	return float64(weight) / -math.Log((float64(u)+0.5)/(1<<52))
}
