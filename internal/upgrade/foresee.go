package upgrade

import (
	"fmt"
	"strings"

	"reuseportd/internal/control"
)

// foresee says, before anything is handed over, that the next generation has less room than the old one has
// connections.
func (c *core) foresee(r *control.Receipt, old, next *generation) {
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
	r.Notice = fmt.Sprintf("%d connections are open and the next generation has room for %d (descriptors, or max_connections): "+
		"about %d stay with the old one until they end or drain_timeout (%s) has passed", open, room, open-room, next.conf.DrainTimeout)
	c.log.Warn().Uint64("connections", open).Uint64("room", room).Msg(r.Notice)
}

// brief bounds what a worker says for a person, which goes into receipts.
func brief(text string) string {
	const most = 300
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "…"
	}
	return text
}
