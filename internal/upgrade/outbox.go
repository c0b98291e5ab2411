package upgrade

import (
	"bytes"
	"time"

	"reuseportd/internal/failpoint"
	"reuseportd/internal/lifecycle"
	"reuseportd/internal/record"
	"reuseportd/internal/shortage"
	"reuseportd/internal/wire"
)

// What the master tells its workers goes out at the end of a turn of coordinator.run,
// after what has become of the service was written down: so what isn't in the record
// was never told, whenever the master is killed.

// letter is a message in the outbox.
type letter struct {
	to    *proc
	draft *wire.Draft
}

// send has a message go out at the end of the turn; the descriptors stay the caller's. A worker that takes none then is as good
// as dead.
func (p *proc) send(kind wire.Kind, body any, fds ...int) error {
	d, err := p.ch.Draft(kind, body, fds...)
	if err == nil {
		p.co.outbox = append(p.co.outbox, letter{p, d})
	}
	return err
}

// endTurn writes the record, and then sends what is in the outbox.
func (co *coordinator) endTurn() {
	if co.quiet {
		co.quiet = false
	} else {
		co.keepRecord()
	}
	for len(co.outbox) > 0 { // a worker's end may lead to more
		letters := co.outbox
		co.outbox = nil
		for _, l := range letters {
			co.deliver(l)
		}
	}
}

func (co *coordinator) deliver(l letter) {
	if !l.to.current() {
		l.draft.Close() // its process has ended
		return
	}
	err := l.to.ch.SetWriteDeadline(time.Now().Add(sendTimeout))
	if err == nil {
		err = l.draft.Send()
	} else {
		l.draft.Close()
	}
	if err != nil {
		co.handle(lifecycle.WorkerMute{ID: l.to.id, Why: err.Error()})
	}
}

// keepRecord writes the record if it is this master's and something in it has changed.
func (co *coordinator) keepRecord() {
	if !co.recording {
		return
	}
	text, err := co.record().Text()
	if err == nil {
		if bytes.Equal(text, co.recorded) {
			return
		}
		_ = failpoint.Hit("record-write")
		err = record.Write(co.dir, text)
	}
	if err != nil {
		if co.recorded != nil || !co.unrecorded {
			co.log.Error().Err(shortage.Explain(err)).Msg("the service can't be written down: should this master be killed, the next one will not know its workers")
		}
		co.recorded, co.unrecorded = nil, true
		return
	}
	co.recorded, co.unrecorded = text, false
	_ = failpoint.Hit("record-written")
}
