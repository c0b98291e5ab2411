package upgrade

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"reuseportd/internal/config"
	"reuseportd/internal/control"
	"reuseportd/internal/custody"
	"reuseportd/internal/failpoint"
	"reuseportd/internal/lifecycle"
	"reuseportd/internal/rundir"
	"reuseportd/internal/stats"
	"reuseportd/internal/wire"
)

// The new master's side of an upgrade: it takes everything from its predecessor.

// predecessor is the master that came before and its channel.
type predecessor struct {
	ch    *wire.Conn
	cu    *holdings
	gone  bool // it has let go, or died
	asked bool // it did not start this one: readiness is told over the channel
}

// greet finds the master that this one comes after, if there is one: that which
// has started it, or that which runs and is asked to let it take over.
func (co *coordinator) greet() error {
	var fd int
	switch {
	case co.upg.HasParent():
		f, err := co.upg.Fds.File(custodyName)
		if err != nil {
			return err
		}
		if f == nil {
			return errors.New("the old master gave no custody channel: it is another program")
		}
		if fd, err = dupFile(f); err != nil {
			return err
		}
	case co.opts.Takeover:
		f, err := askCustody(co.dir)
		if errors.Is(err, control.ErrNoMaster) {
			co.log.Info().Msg("no master runs: there is nothing to take over")
			return nil
		}
		if err != nil {
			return err
		}
		if fd, err = dupFile(f); err != nil {
			return err
		}
	default:
		return nil
	}
	ch, err := wire.FromFD(fd)
	if err != nil {
		return err
	}
	_ = ch.SetWriteDeadline(time.Now().Add(time.Minute))
	co.pred = &predecessor{ch: ch, cu: newHoldings(), asked: !co.upg.HasParent()}
	return nil
}

// askCustody asks the running master for a custody channel, and the next one if
// that is being replaced.
func askCustody(dir *rundir.Dir) (*os.File, error) {
	ctx, cancel := context.WithTimeout(context.Background(), askTimeout)
	defer cancel()
	for {
		f, err := askCustodyOnce(ctx, dir)
		refused := (*control.RefusedError)(nil)
		if !errors.As(err, &refused) || refused.Text != control.ErrSuperseded || ctx.Err() != nil {
			return f, err
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func askCustodyOnce(ctx context.Context, dir *rundir.Dir) (*os.File, error) {
	client, err := control.DialIn(ctx, dir)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	resp, err := client.Do(ctx, control.Request{Command: "takeover", Cause: "command"})
	if err != nil {
		return nil, err
	}
	if resp.File == nil {
		return nil, errors.New("the running master gave no custody channel: it may be of a release that knows none")
	}
	return resp.File, nil
}

// takeSockets receives the first part of the custody, and returns what is to be
// served.
func (co *coordinator) takeSockets(conf *config.Config, confErr error) (*config.Config, error) {
	p := co.pred
	if err := p.ch.Send(wire.KindHello, custody.Hello{PID: os.Getpid(), Version: co.opts.Version}); err != nil {
		return nil, err
	}
	if err := p.cu.receive(p.ch, custodyTimeout); err != nil {
		return nil, err
	}
	if p.cu.config != nil {
		conf, confErr = config.Parse(co.opts.ConfigPath, p.cu.config)
	}
	if confErr != nil {
		return nil, confErr
	}
	lock, err := co.dir.AdoptLock(p.cu.lock)
	if err != nil {
		return nil, err
	}
	co.lock = lock
	if co.listener, err = control.FromFD(p.cu.control); err != nil {
		return nil, err
	}
	co.keeping.socket = co.dir.Inode(control.SocketName)
	if co.tables.Ledger, err = stats.AdoptLedger(p.cu.ledger, p.cu.end.LedgerFormat); err != nil {
		return nil, err
	}
	if err := co.takeBoard(p.cu.board, p.cu.end.BoardFormat); err != nil {
		return nil, err
	}
	if err := co.takeClients(p.cu.clients, p.cu.end.ClientsFormat); err != nil {
		return nil, err
	}
	sockets, err := p.cu.sockets()
	if err != nil {
		return nil, err
	}
	co.handle(co.tables)
	co.handle(lifecycle.TicketsBrought{Set: p.cu.materials})
	co.handle(lifecycle.Predecessor{Image: p.cu.image})
	co.handle(lifecycle.TakeSockets{Sockets: sockets, Numbers: p.cu.end})
	return conf, nil
}

// commit makes this master the one that counts. One that comes after another asks for the workers, says that it is ready, and
// waits until the old one has let go: that is either its Goodbye or its end.
func (co *coordinator) commit() error {
	if err := co.succeed(); err != nil {
		return err
	}
	co.reopenLogs(false)
	return nil
}

// succeed makes this master the one that is known, in place of the one before it,
// if there was one.
func (co *coordinator) succeed() error {
	p := co.pred
	if p == nil {
		return co.announce(false)
	}
	err := co.takeWorkers()
	if errors.Is(err, io.EOF) {
		return co.succeedDead()
	}
	if err != nil {
		return err
	}
	if p.asked {
		// The old one may have given this one up: what it says now decides, and
		// until then the PID file is its.
		if err := p.ch.Send(wire.KindTaken, struct{}{}); err != nil && !errors.Is(err, wire.ErrGone) {
			return err
		}
	} else if err := co.announce(false); err != nil {
		return err
	}
	if err := co.awaitGoodbye(); err != nil {
		return err
	}
	co.owner, co.recording, p.gone = true, true, true
	if p.asked {
		if err := co.announce(true); err != nil {
			co.log.Error().Err(err).Msg("can't announce readiness")
		}
		co.announced = true
	}
	co.inheritWorkers(p.cu, lifecycle.Inherit{})
	co.serveControl()
	return nil
}

// succeedDead goes on when the old master has died before it gave its workers
// away: they are adopted.
func (co *coordinator) succeedDead() error {
	co.log.Warn().Msg("the old master died before it gave its workers away")
	co.owner, co.pred.gone = true, true
	co.handle(lifecycle.Keeper{})
	co.pred.cu.dropWorkers()
	if _, err := co.adoptOrphans(co.core.ComingTimeout()); err != nil {
		co.owner = false // what is there is for a better master to adopt
		return err
	}
	co.recording = true
	co.sweepPprofs()
	if err := co.announce(true); err != nil {
		return err
	}
	co.serveControl()
	return nil
}

// announce tells whoever waits that this is the master now, and writes the PID
// file: a master that can't be found is none. But where nobody else would look after the workers
// it is better than none, and no PID file than one that names a dead process: keepDir tries again.
func (co *coordinator) announce(alone bool) error {
	if err := co.writePID(); err != nil {
		if !alone {
			return err
		}
		co.log.Error().Err(err).Msg("the PID file can't be written, and is tried again; until then this master is found at its control socket only")
		_ = co.dir.Remove(PIDFile)
	}
	if err := co.upg.Ready(); err != nil {
		if !strings.Contains(err.Error(), "notify parent") { // tableflip's word for a parent that is dead
			return err
		}
		// The old master died just now and nobody else serves: go on.
		co.log.Error().Err(err).Msg("can't announce readiness")
	}
	co.announced = true
	if co.pred == nil {
		co.serveControl()
	}
	return nil
}

func (co *coordinator) writePID() error {
	return co.dir.WriteFile(PIDFile, []byte(strconv.Itoa(os.Getpid())), 0o644)
}

// takeWorkers receives the second part of the custody.
func (co *coordinator) takeWorkers() error {
	// It may be dead, or have given this one up: what it has said last tells.
	if err := co.pred.ch.Send(wire.KindCommit, struct{}{}); err != nil && !errors.Is(err, wire.ErrGone) {
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

// report tells the old master how it ended; that one answers whoever asked. ended is called when
// it has let go and ended.
func (p *predecessor) report(r *control.Receipt, ended func()) {
	if !p.gone {
		p.failEarly(errors.New(r.Error))
		return
	}
	_ = p.ch.Send(wire.KindReceipt, r)
	_ = p.ch.SetReadDeadline(time.Time{})
	go func() {
		defer p.ch.Close()
		for {
			m, err := p.ch.Recv()
			if err != nil {
				ended()
				return
			}
			m.Close()
		}
	}()
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
