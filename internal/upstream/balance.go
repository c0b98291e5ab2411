package upstream

import (
	"math"
	"math/bits"
	"time"

	"reuseportd/internal/config"
)

// renew takes the pool's present list.
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

// pace decides how often the sessions of other loops are looked at: once in a turn of the
// loop or, where there are many numbers to add up, in a millisecond.
func (c *Chooser) pace() {
	c.seenEvery = 1
	if b := c.pool.set.board; b != nil && len(c.list.servers)*b.rowsInUse() > 512 {
		c.seenEvery = int64(time.Millisecond)
	}
}

// stagger begins the turn of round robin elsewhere for each loop, so that many loops with
// a few connections each don't all begin with the same server.
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

// best returns the place of the server to try next: one of those with weight.
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

// fairest is smooth weighted round robin, which nginx made known: each server gains its
// weight in each turn, the richest is chosen and pays for all.
func (c *Chooser) fairest(from, to int) int {
	best := -1
	for i := from; i < to; i++ {
		if c.weights[i] > 0 && (best < 0 || c.credits[i]+c.weights[i] > c.credits[best]+c.weights[best]) {
			best = i
		}
	}
	return best
}

// charge is the end of a turn, when the server could be had.
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

// leastUsed is the server that would have the fewest sessions for its weight; of equal ones
// each in its turn.
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

// use is how many sessions all loops have at a server, those of the others as they were
// when they were looked at last.
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

// draw returns one of those with weight but without, which have total together.
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
	return -1 // there is one
}

// highest is weighted rendezvous hashing: each server draws a number u from 0 to 1 for the
// key, and the highest weight ÷ -ln u wins. So a server that goes gives its keys to all others,
// and no other key moves.
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

// rank is weight ÷ -ln u for a u of 52 bits.
func rank(weight int64, u uint64) float64 {
	return float64(weight) / -math.Log((float64(u)+0.5)/(1<<52))
}
