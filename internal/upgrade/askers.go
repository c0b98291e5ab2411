package upgrade

import (
	"context"
	"fmt"
	"slices"

	"reuseportd/internal/control"
)

// ask is a request of a client of the control socket.
type ask struct {
	control.Request
	asker
}

// asker is who waits for an answer.
type asker struct {
	tell func(control.Response)
	left <-chan struct{} // closed when it waits no more; nil is never
}

func (a asker) waits() bool {
	select {
	case <-a.left:
		return false
	default:
		return true
	}
}

// join adds askers to those of the same change, and forgets who waits no more: clients
// that ask and go, again and again, must not pile up behind a long change.
func join(to []asker, more ...asker) []asker {
	return append(slices.DeleteFunc(to, func(a asker) bool { return !a.waits() }), more...)
}

// Handle implements control.Handler. What a client has asked for is done whether or not
// it waits.
func (co *coordinator) Handle(ctx context.Context, req control.Request) control.Response {
	answer, left := make(chan control.Response, 1), make(chan struct{})
	unclaimed := func() {
		select {
		case r := <-answer:
			if r.File != nil {
				_ = r.File.Close() // its other end is told so
			}
		default:
		}
	}
	a := ask{req, asker{left: left, tell: func(r control.Response) {
		answer <- r
		select {
		case <-left:
			unclaimed()
		default:
		}
	}}}
	defer func() {
		close(left)
		unclaimed()
	}()
	superseded := control.Response{Error: control.ErrSuperseded}
	select {
	case co.asks <- a:
	case <-ctx.Done():
		return superseded
	}
	select {
	case r := <-answer:
		return r
	case <-ctx.Done():
		return superseded
	case <-req.Gone:
		return superseded // which nobody reads
	}
}

// answer answers a client, now or when the change is over.
func (co *coordinator) answer(a ask) {
	switch a.Command {
	case "status":
		if a.waits() {
			st := co.core.status()
			st.RuntimeDir, st.Log = co.runtimeDir(), co.logStatus()
			st.Waiting = co.waiting()
			a.tell(control.Response{Status: st})
		}
	case "drained":
		co.core.awaitDrained(a.Generation, a.asker)
	case "reload", "upgrade", "stop", "takeover":
		co.core.request(request{action: a.Command, cause: a.Cause, force: a.Force, asker: a.asker})
	default:
		a.tell(control.Response{Error: fmt.Sprintf("unknown command %q", a.Command)})
	}
}
