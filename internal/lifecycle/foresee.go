package lifecycle

import (
	"fmt"
	"strings"
	"time"

	"reuseportd/internal/control"
)

// foresee says, before anything is handed over, that the next generation has less room than the old one has
// connections.
func (c *Core) foresee(r *control.Receipt, old, next *generation) {
	open, room := c.sum(old).Open, uint64(0)
	for _, w := range next.workers {
		if w.room <= 0 {
			return // of an older release
		}
		room += uint64(w.room)
	}
	if open <= room {
		return
	}
	c.notice(r, fmt.Sprintf("%d connections are open and the next generation has room for %d (descriptors, or max_connections): "+
		"about %d stay with the old one until they end or drain_timeout (%s) has passed", open, room, open-room, next.conf.DrainTimeout))
}

// momentAgo is how long ago a file was written that somebody may still be writing.
const momentAgo = 10 * time.Second

// doubt says that a configuration takes listeners away and may be half of what its writer meant.
func (c *Core) doubt(r *control.Receipt, old, next *generation) {
	written := c.now.Sub(next.conf.InPlace)
	if old.conf == nil || next.conf.InPlace.IsZero() || written > momentAgo {
		return
	}
	var gone []string
	for i := range old.conf.Listeners {
		if l := &old.conf.Listeners[i]; next.listener(l.Key()) == nil {
			gone = append(gone, fmt.Sprintf("%s (%s)", l.Name, l.Address))
		}
	}
	if len(gone) == 0 {
		return
	}
	c.notice(r, fmt.Sprintf("%s taken away, and the file was written in place %s before, so it may have been half written: "+
		"look whether it is meant; a new file that is renamed over the old one is whole at every moment",
		Brief(listed(gone)), max(0, written).Round(100*time.Millisecond)))
}

// listed is `listener a is` or `the listeners a, b are`.
func listed(names []string) string {
	if len(names) == 1 {
		return "listener " + names[0] + " is"
	}
	return "the listeners " + strings.Join(names, ", ") + " are"
}

// notice adds to what a receipt says beside its outcome.
func (c *Core) notice(r *control.Receipt, text string) {
	c.log.Warn().Str("action", r.Action).Msg(text)
	if r.Notice != "" {
		text = r.Notice + "; " + text
	}
	r.Notice = text
}

// Brief bounds what a worker says for a person, which goes into receipts.
func Brief(text string) string {
	const most = 300
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "…"
	}
	return text
}
