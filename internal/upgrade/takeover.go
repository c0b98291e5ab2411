package upgrade

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"reuseportd/internal/config"
	"reuseportd/internal/control"
	"reuseportd/internal/failpoint"
	"reuseportd/internal/rundir"
	"reuseportd/internal/wire"
)

// The new master's side of a binary upgrade.

// predecessor is the master that came before and its channel.
type predecessor struct {
	ch   *wire.Conn
	cu   *custody
	gone bool // it has let go, or died
}

// greet asks the old master for its sockets.
func (co *coordinator) greet() error {
	f, err := co.upg.Fds.File(custodyName)
	if err != nil {
		return err
	}
	if f == nil {
		return errors.New("the old master gave no custody channel: it is another program")
	}
	fd, err := dupFile(f)
	if err != nil {
		return err
	}
	ch, err := wire.FromFD(fd)
	if err != nil {
		return err
	}
	_ = ch.SetWriteDeadline(time.Now().Add(time.Minute))
	co.pred = &predecessor{ch: ch, cu: newCustody()}
	return nil
}

// takeSockets receives the first part of the custody.
func (co *coordinator) takeSockets() error {
	p := co.pred
	if err := p.ch.Send(wire.KindHello, hello{PID: os.Getpid(), Version: co.opts.Version}); err != nil {
		return err
	}
	if err := p.cu.receive(p.ch, custodyTimeout); err != nil {
		return err
	}
	lock, err := rundir.AdoptLock(co.opts.RuntimeDir, p.cu.lock)
	if err != nil {
		return err
	}
	co.lock = lock
	if co.listener, err = control.FromFD(p.cu.control); err != nil {
		return err
	}
	return co.core.adoptSockets(p.cu)
}

// Commit implements host. A first master may go ahead. One that was started by
// an upgrade asks for the workers, says that it is ready, and waits until the
// old one has let go: that is either its Goodbye or its end.
func (co *coordinator) Commit() {
	if co.core.change.action == "reload" {
		co.core.activate()
		return
	}
	if co.pred != nil {
		if err := co.takeWorkers(); err != nil {
			co.core.fail(err)
			return
		}
	}
	if err := co.upg.Ready(); err != nil {
		if !strings.Contains(err.Error(), "notify parent") { // tableflip's word for a parent that is dead
			co.core.fail(err) // the PID file: a master that can't be found is none
			return
		}
		// The old master died just now and nobody else serves: go on.
		co.log.Error().Err(err).Msg("can't announce readiness")
	}
	if co.pred != nil {
		if err := co.awaitGoodbye(); err != nil {
			co.core.fail(err)
			return
		}
		co.owner, co.pred.gone = true, true
		co.adoptWorkers(co.pred.cu)
		co.core.change.fatal = false // from here on there is a generation to serve on with
	}
	co.serveControl()
	co.core.now = time.Now()
	co.core.activate()
}

// takeWorkers receives the second part of the custody.
func (co *coordinator) takeWorkers() error {
	if err := co.pred.ch.Send(wire.KindCommit, struct{}{}); err != nil {
		return fmt.Errorf("ask the old master for its workers: %w", err)
	}
	if err := co.pred.cu.receive(co.pred.ch, custodyTimeout); err != nil {
		return err
	}
	return failpoint.Hit("custody-received")
}

func (co *coordinator) awaitGoodbye() error {
	_ = co.pred.ch.SetReadDeadline(time.Now().Add(parentTimeout))
	m, err := co.pred.ch.Recv()
	switch {
	case errors.Is(err, io.EOF):
		co.log.Warn().Msg("the old master died as it handed over; everything had arrived")
	case err != nil:
		return fmt.Errorf("wait for the old master to let go: %w", err)
	case m.Kind != wire.KindGoodbye:
		m.Close()
		return fmt.Errorf("wait for the old master to let go: %s came", m.Kind)
	}
	return nil
}

// report tells the old master how it ended; that one answers whoever asked.
func (p *predecessor) report(r *control.Receipt) {
	if p.gone {
		_ = p.ch.Send(wire.KindReceipt, r)
	} else {
		_ = p.ch.Send(wire.KindFailed, wire.Failed{Error: r.Error})
	}
	_ = p.ch.Close()
}

// failEarly reports an error that a new master met before it had a core.
func (p *predecessor) failEarly(err error) {
	_ = p.ch.Send(wire.KindFailed, wire.Failed{Error: err.Error()})
	_ = p.ch.Close()
}

// upgradeTimeout bounds the time until a new binary is ready, as of this master's
// first configuration: tableflip takes it once. The new master watches over
// start_timeout itself and knows more of the reason, so it has a second to speak.
func upgradeTimeout(c *config.Config) time.Duration {
	if c == nil {
		return time.Minute
	}
	return c.StartTimeout + time.Second
}
