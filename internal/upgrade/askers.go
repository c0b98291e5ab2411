package upgrade

import (
	"context"
	"fmt"

	"reuseportd/internal/control"
	"reuseportd/internal/lifecycle"
)

// ask is a request of a client of the control socket.
type ask struct {
	control.Request
	lifecycle.Asker
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
	a := ask{req, lifecycle.Asker{Left: left, Tell: func(r control.Response) {
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
		if a.Waits() {
			st := co.core.Status()
			st.RuntimeDir, st.Log = co.runtimeDir(), co.logStatus()
			st.Waiting = co.waiting()
			a.Tell(control.Response{Status: st})
		}
	case "drained":
		co.handle(lifecycle.AwaitDrained{Generation: a.Generation, Asker: a.Asker})
	case "reload", "upgrade", "stop", "takeover":
		co.handle(lifecycle.Request{Action: a.Command, Cause: a.Cause, Force: a.Force, Asker: a.Asker})
	default:
		a.Tell(control.Response{Error: fmt.Sprintf("unknown command %q", a.Command)})
	}
}
