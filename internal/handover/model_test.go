package handover

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
)

// The world of the rule of ownership: workers that drain and workers that serve, a
// master that introduces them to each other, and channels. All that may come at
// any moment comes at a random one. Nothing in it but Giver decides.

// client is a connection.
type client struct {
	id, cost int
	begun    int // times that an owner began to read it
}

func (c *client) String() string { return fmt.Sprintf("c%d", c.id) }

// node is a worker process.
type node struct {
	id, generation int
	alive          bool
	limit          int // descriptors that it may hold as a taker
	granted        int

	// As its loops have it.
	here    []*client        // being served
	leaving []*client        // of them, those that Depart will give out
	stays   map[*client]bool // of them, those that nobody takes
	away    map[*client]int  // offered, with client.begun of that time

	// As a draining worker has it.
	draining, on bool
	giver        Giver[*client]
	asked        *ask
	heirs, wards []*link
}

// ask is a Depart under way.
type ask struct {
	heir uint64
	n    int
}

// link is a channel. What is written to it is read unless the reader dies.
type link struct {
	id       uint64
	from, to *node
	offers   []bundle
	said     []word
	taking   *bundle // by the taker, which reads no further meanwhile
	answered bool
}

type bundle struct {
	seq   uint64
	items []*client
	made  []*client
}

// word is what a taker says: a grant if seq is 0 and none is false.
type word struct {
	grant   bool
	room    int
	seq     uint64
	none    bool
	refused []int
	made    []*client // for the checker
}

// flaw is a way to break the rule, to see that the checker finds it.
type flaw int

const (
	sound flaw = iota
	beginsBeforeAnswer
	releasesBeforeAnswer
	takesBackAtAnswer // the giver goes on with what was taken
	forgetsTheDead    // the giver doesn't take back what an heir left unanswered
	hearsOfDeathFirst // the end of a channel overtakes what was said before
	deadGiversOfferIsLost
)

type world struct {
	*rand.Rand
	flaw       flaw
	master     bool
	generation int
	nodes      []*node
	links      []*link
	clients    []*client
	lost       map[*client]bool
	ids        uint64
	tight      bool // takers have little room
	history    []string
	handed     int // connections that a taker has begun with
}

func newWorld(seed uint64, f flaw) *world {
	w := &world{Rand: rand.New(rand.NewPCG(seed, 0)), flaw: f, master: true, lost: make(map[*client]bool)}
	w.tight = seed%3 == 0
	w.nextGeneration()
	return w
}

func (w *world) log(format string, args ...any) {
	w.history = append(w.history, fmt.Sprintf(format, args...))
}

// number returns one for everything that is told apart in the history.
func (w *world) number() int {
	w.ids++
	return int(w.ids)
}

func (w *world) spawn() {
	limit := 1 << 20
	if w.tight {
		limit = w.IntN(20)
	}
	n := &node{
		id: w.number(), generation: w.generation, alive: true, limit: limit,
		stays: make(map[*client]bool), away: make(map[*client]int),
	}
	w.nodes = append(w.nodes, n)
	w.log("worker %d of generation %d starts", n.id, n.generation)
}

func (w *world) nextGeneration() {
	w.generation++
	for _, n := range w.nodes {
		if n.alive && !n.draining {
			w.log("worker %d drains", n.id)
			n.draining, n.on = true, true
			n.leaving = slices.Clone(n.here)
		}
	}
	for range 1 + w.IntN(2) {
		w.spawn()
	}
}

// live returns the workers for which f holds.
func (w *world) live(f func(*node) bool) (ns []*node) {
	for _, n := range w.nodes {
		if n.alive && f(n) {
			ns = append(ns, n)
		}
	}
	return ns
}

func (w *world) serving() []*node {
	return w.live(func(n *node) bool { return n.generation == w.generation })
}

func (n *node) used() (sum int) {
	for _, c := range n.here {
		sum += c.cost
	}
	for _, l := range n.wards {
		if l.taking != nil {
			for _, c := range l.taking.made {
				sum += c.cost
			}
		}
	}
	return sum
}

func drop[T comparable](s []T, v T) []T {
	return slices.DeleteFunc(s, func(o T) bool { return o == v })
}

// accept gives a worker a new client, or one that was lost to it.
func (w *world) accept(n *node) {
	c := &client{id: w.number(), cost: 1 + w.IntN(3), begun: 1}
	w.clients = append(w.clients, c)
	w.log("worker %d accepts %v", n.id, c)
	n.here = append(n.here, c)
	if n.draining && n.on {
		n.leaving = append(n.leaving, c)
	}
}

// introduce is the master's work; it returns whether there was some.
func (w *world) introduce() bool {
	for _, from := range w.live(func(n *node) bool { return n.draining }) {
		for _, to := range w.serving() {
			if slices.ContainsFunc(from.heirs, func(l *link) bool { return l.to == to }) {
				continue
			}
			l := &link{id: uint64(w.number()), from: from, to: to}
			w.log("the master joins %d and %d by channel %d", from.id, to.id, l.id)
			w.links = append(w.links, l)
			from.heirs, to.wards = append(from.heirs, l), append(to.wards, l)
			from.giver.Join(l.id, uint64(to.generation))
			to.grant(l, 6)
			if !from.on {
				from.on, from.leaving = true, slices.Clone(from.here)
			}
			return true
		}
	}
	return false
}

func (n *node) grant(l *link, room int) {
	room = max(0, min(room, n.limit-n.used()-n.granted))
	n.granted += room
	l.said = append(l.said, word{grant: true, room: room})
}

// pick begins a Depart.
func (w *world) pick(n *node) bool {
	id, most, ok := n.giver.Pick(4)
	if ok {
		n.asked = &ask{id, most}
	}
	n.giveUp()
	return ok
}

func (n *node) giveUp() {
	if n.on && n.giver.Full() {
		n.on, n.leaving = false, nil
	}
}

// offer ends a Depart and offers what it gave out.
func (w *world) offer(n *node) {
	a := n.asked
	n.asked = nil
	left := a.n
	var items []*client
	for len(n.leaving) > 0 {
		c := n.leaving[0]
		if left -= c.cost; left < 0 && len(items) > 0 {
			left += c.cost
			break
		}
		n.leaving, n.here = n.leaving[1:], drop(n.here, c)
		n.away[c] = c.begun
		items = append(items, c)
	}
	seq, ok := n.giver.Offer(a.heir, items, left)
	if !ok {
		w.log("worker %d has no heir %d any more for %v", n.id, a.heir, items)
		w.back(n, items, true)
		return
	}
	if len(items) == 0 {
		return
	}
	l := n.link(a.heir)
	switch {
	case w.IntN(30) == 0:
		w.log("worker %d can't send %v", n.id, items)
		w.back(n, n.giver.Unsent(l.id, seq, a.n-max(left, 0)), false)
		return
	case l.to.alive:
		l.offers = append(l.offers, bundle{seq: seq, items: items})
	}
	w.log("worker %d offers %v by %d as %d", n.id, items, l.id, seq)
	if w.flaw == releasesBeforeAnswer {
		w.release(n, items)
	}
}

func (n *node) link(id uint64) *link {
	i := slices.IndexFunc(n.heirs, func(l *link) bool { return l.id == id })
	return n.heirs[i]
}

// back is Return.
func (w *world) back(n *node, items []*client, again bool) {
	for _, c := range items {
		if begun, away := n.away[c]; !away || begun != c.begun {
			w.fail("worker %d goes on with %v, which somebody else has read", n.id, c)
		}
		delete(n.away, c)
		n.here = append(n.here, c)
		if again && n.on {
			n.leaving = append(n.leaving, c)
		} else {
			n.stays[c] = true
		}
	}
}

// release is Departed.
func (w *world) release(n *node, items []*client) {
	for _, c := range items {
		delete(n.away, c)
	}
}

// take reads an offer and makes what it can of it.
func (w *world) take(l *link) {
	b := l.offers[0]
	l.offers = l.offers[1:]
	cost := 0
	for _, c := range b.items {
		cost += c.cost
	}
	defer func() { // what is refused has no giver to go back to
		for _, c := range b.items {
			if !l.from.alive && !slices.Contains(b.made, c) {
				w.lost[c] = true
			}
		}
	}()
	switch w.IntN(40) {
	case 0: // descriptors are missing: not even its number can be read
		w.log("worker %d can't read offer %d of channel %d", l.to.id, b.seq, l.id)
		l.said = append(l.said, word{none: true}, word{grant: true})
		return
	case 1: // of another format
		w.log("worker %d refuses all of offer %d of channel %d", l.to.id, b.seq, l.id)
		l.said = append(l.said, word{seq: b.seq, none: true})
		l.to.regrant(l, cost)
		return
	}
	l.taking, l.answered = &b, false
	for _, c := range b.items {
		if l.to.used()+c.cost <= l.to.limit && w.IntN(20) > 0 {
			b.made = append(b.made, c)
		}
	}
	w.log("worker %d makes %v of offer %d of channel %d", l.to.id, b.made, b.seq, l.id)
	if w.flaw == beginsBeforeAnswer {
		w.begin(l)
		l.taking = &b
	}
}

func (n *node) regrant(l *link, used int) {
	n.granted -= used
	n.grant(l, used)
}

func (w *world) answer(l *link) {
	a := word{seq: l.taking.seq, made: l.taking.made}
	for i, c := range l.taking.items {
		if !slices.Contains(l.taking.made, c) {
			a.refused = append(a.refused, i)
		}
	}
	w.log("worker %d answers %d of channel %d", l.to.id, a.seq, l.id)
	if l.from.alive {
		l.said = append(l.said, a)
	}
	if l.answered = true; w.flaw == beginsBeforeAnswer {
		l.taking = nil
	}
}

func (w *world) begin(l *link) {
	b := l.taking
	l.taking = nil
	cost := 0
	for _, c := range b.items {
		cost += c.cost
	}
	for _, c := range b.made {
		c.begun++
		w.handed++
		l.to.here = append(l.to.here, c)
		if l.to.draining && l.to.on {
			l.to.leaving = append(l.to.leaving, c)
		}
	}
	w.log("worker %d begins with %v", l.to.id, b.made)
	l.to.regrant(l, cost)
}

// hear reads what a taker has said.
func (w *world) hear(l *link) {
	n, a := l.from, l.said[0]
	l.said = l.said[1:]
	if a.grant {
		n.giver.Grant(l.id, a.room)
		n.giveUp()
		return
	}
	taken, kept := n.giver.Answer(l.id, a.seq, a.none, a.refused)
	w.log("worker %d hears that %v are taken, %v are not", n.id, taken, kept)
	if w.flaw == takesBackAtAnswer {
		w.back(n, taken, false)
	} else {
		w.release(n, taken)
	}
	w.back(n, kept, false)
}

// bereave reads the end of a channel.
func (w *world) bereave(l *link) {
	n := l.from
	items := n.giver.Leave(l.id)
	w.log("worker %d hears of the death of %d, has %v again", n.id, l.to.id, items)
	n.heirs = drop(n.heirs, l)
	if w.flaw != forgetsTheDead {
		w.back(n, items, true)
	}
	n.giveUp()
}

func (w *world) die(n *node) {
	before := w.owners()
	w.log("worker %d dies", n.id)
	n.alive = false
	for _, l := range w.links {
		if l.to == n {
			l.offers, l.taking = nil, nil
		}
		if l.from == n {
			l.said = nil
			if w.flaw == deadGiversOfferIsLost {
				l.offers = nil
			}
		}
	}
	after := w.owners()
	for c, o := range before {
		if _, owned := after[c]; owned {
			continue
		}
		if o != n {
			w.fail("the death of %d costs %v, which was %d's", n.id, c, o.id)
		}
		w.lost[c] = true
	}
}

// owners tells whose each connection is, which no more than one can be. It fails if
// there are two.
func (w *world) owners() map[*client]*node {
	own := make(map[*client]*node)
	claim := func(c *client, n *node, as string) {
		if o, taken := own[c]; taken {
			w.fail("%v is both %d's and %d's, as %s", c, o.id, n.id, as)
		}
		own[c] = n
	}
	type gift struct {
		c    *client
		from *node
	}
	given := make(map[gift]bool) // its taker has said that it is its own
	for _, n := range w.live(func(*node) bool { return true }) {
		for _, c := range n.here {
			claim(c, n, "one that it serves")
		}
	}
	for _, l := range w.links {
		for _, a := range l.said {
			for _, c := range a.made {
				given[gift{c, l.from}] = true
			}
		}
		if !l.to.alive {
			continue
		}
		for _, b := range l.offers { // will be read
			for _, c := range b.items {
				claim(c, l.to, "an offer")
			}
		}
		if l.taking != nil {
			for _, c := range l.taking.made {
				claim(c, l.to, "one that it has made")
			}
		}
	}
	// What is away is its giver's in reserve, until the taker has said that it is not.
	for _, n := range w.live(func(*node) bool { return true }) {
		for c := range n.away {
			if _, taken := own[c]; !taken && !given[gift{c, n}] {
				own[c] = n
			}
		}
	}
	return own
}

// check holds the rule.
func (w *world) check() {
	own := w.owners()
	for _, c := range w.clients {
		if _, owned := own[c]; owned == w.lost[c] {
			w.fail("%v: owned is %v, lost is %v", c, owned, w.lost[c])
		}
	}
}

func (w *world) fail(format string, args ...any) {
	panic(broken(fmt.Sprintf(format, args...) + "\n" + strings.Join(w.history[max(0, len(w.history)-80):], "\n")))
}

// broken is the rule's breach, with the history that led to it.
type broken string
