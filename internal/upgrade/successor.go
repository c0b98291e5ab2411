package upgrade

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"reuseportd/internal/control"
	"reuseportd/internal/custody"
	"reuseportd/internal/failpoint"
	"reuseportd/internal/lifecycle"
	"reuseportd/internal/sdnotify"
	"reuseportd/internal/shortage"
	"reuseportd/internal/wire"
)

// The old master's side of an upgrade: it gives everything to its successor.

const (
	custodyName    = "custody"       // of the one file that goes through tableflip
	custodyTimeout = 5 * time.Second // for one message, or one part
	parentTimeout  = 10 * time.Second
	askTimeout     = 2 * time.Minute  // for a takeover's turn, behind a slow change
	receiptTimeout = 10 * time.Second // from Goodbye to the next master's cut-over
)

// startUpgrade has tableflip start the binary that now stands at
// this one's path, or an earlier one, and end it if it isn't ready in time.
func (co *coordinator) startUpgrade(back *lifecycle.Prior) {
	co.restore() // the next master opens the directory by its path
	co.handle(lifecycle.Giving{})
	ch, far, err := wire.Pair()
	if err == nil {
		err = co.upg.Fds.AddFile(custodyName, far)
		_ = far.Close()
	}
	if err != nil {
		co.handle(lifecycle.NotUpgraded{Err: fmt.Errorf("prepare the upgrade: %w", err)})
		return
	}
	_ = ch.SetWriteDeadline(time.Now().Add(time.Minute))
	ch.RefuseFDs() // a next master has none to send
	u := &successor{co: co, ch: ch, back: back, done: make(chan error, 1), listened: make(chan struct{})}
	co.successor = u
	go func() {
		u.done <- co.startNext(back)
		co.post(func() { u.ended() })
	}()
	go u.listen()
}

// startTakeover gives custody to a master that others have started. It tells of its readiness over the
// channel, and its death is the channel's end.
func (co *coordinator) startTakeover(answer func(control.Response)) {
	co.restore()
	co.handle(lifecycle.Giving{})
	ch, far, err := wire.Pair()
	if err != nil {
		answer(control.Response{Error: err.Error()})
		co.handle(lifecycle.NotUpgraded{Err: fmt.Errorf("prepare the takeover: %w", err)})
		return
	}
	_ = ch.SetWriteDeadline(time.Now().Add(time.Minute))
	ch.RefuseFDs() // a next master has none to send
	u := &successor{co: co, ch: ch, asked: true, done: make(chan error, 1), listened: make(chan struct{})}
	co.successor = u
	answer(control.Response{File: far})
	late := time.AfterFunc(co.patience, func() { _ = ch.StopReading() })
	go func() {
		u.listen()
		late.Stop()
		co.post(func() { u.ended() })
	}()
}

// startNext has tableflip start the next master, once the one before this one has
// gone. That is noticed by a goroutine of tableflip's own, a moment later.
func (co *coordinator) startNext(back *lifecycle.Prior) error {
	ctx, cancel := context.WithTimeout(context.Background(), parentTimeout)
	defer cancel()
	if err := co.upg.WaitForParent(ctx); errors.Is(err, context.DeadlineExceeded) {
		return errors.New("the master before this one has not exited yet")
	}
	// By the path, and not by what stands behind it: a script may execute another file each time.
	_ = os.Setenv(BinaryEnv, os.Args[0])
	defer os.Unsetenv(BinaryEnv)
	if back != nil {
		defer runImage(back.Image)()
	}
	_ = os.Setenv(patienceEnv, co.patience.String())
	defer os.Unsetenv(patienceEnv)
	for {
		err := co.upg.Upgrade()
		if err == nil || err.Error() != "parent hasn't exited" || ctx.Err() != nil {
			return shortage.Ended(err)
		}
		time.Sleep(time.Millisecond)
	}
}

// nextBinary is the path of what startUpgrade starts.
func nextBinary(back *lifecycle.Prior) string {
	if back != nil {
		return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), back.Image.Fd())
	}
	return os.Args[0]
}

// touch reads the beginning of a file.
func touch(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return err
	}
	_, err = f.Read(make([]byte, 4096))
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// BinaryEnv names the variable that tells a master the path that its successors are to be started
// from: its own may be an open file, or what a script at that path has executed.
const BinaryEnv = "REUSEPORTD_BINARY"

// runImage has tableflip, which runs os.Args[0], run an open file. The function
// that it returns undoes that.
func runImage(f *os.File) func() {
	path := os.Args[0]
	os.Args[0] = nextBinary(&lifecycle.Prior{Image: f})
	return func() { os.Args[0] = path }
}

// cancelUpgrade has the next master given up.
func (co *coordinator) cancelUpgrade() {
	if co.successor != nil && co.successor.asked {
		_ = co.successor.ch.StopReading()
		return
	}
	co.upg.Stop()
}

// successor is the next master, or the attempt to start one.
type successor struct {
	co     *coordinator
	ch     *wire.Conn
	back   *lifecycle.Prior // nil but in a rollback
	done   chan error       // what tableflip said
	failed string           // what the next master said before it gave up
	pid    int              // the next master's, once it has said so
	over   bool
	asked  bool // it is a takeover

	listened chan struct{} // closed when listen has ended
}

// listen passes on what the next master says before it commits.
func (u *successor) listen() {
	defer close(u.listened)
	for {
		m, err := u.ch.Recv()
		if err != nil {
			return
		}
		u.co.post(func() {
			defer m.Close()
			if !u.over {
				u.handle(m)
			}
		})
		if m.Kind == wire.KindCommit {
			return // handOver reads what comes now
		}
	}
}

func (u *successor) handle(m wire.Message) {
	switch m.Kind {
	case wire.KindHello:
		var b custody.Hello
		if err := m.Decode(&b); err != nil {
			u.co.log.Error().Err(err).Msg("the next master's greeting is not understood")
			return
		}
		u.pid = b.PID
		u.co.handle(lifecycle.NextMaster{Progress: fmt.Sprintf("the next master (pid %d, version %s) is getting ready", b.PID, spoken(b.Version))})
		u.co.log.Info().Int("next_pid", b.PID).Str("next_version", spoken(b.Version)).Msg("the next master is getting ready")
		if err := u.co.sendSockets(u.ch, u.back); err != nil {
			u.co.log.Error().Err(err).Msg("can't send the sockets to the next master")
		}
	case wire.KindFailed:
		var b wire.Failed
		if m.Decode(&b) == nil {
			u.failed = b.Error
		}
	case wire.KindCommit:
		u.handOver()
	}
}

// ended is called when tableflip has given up the next master, which did not get
// as far as handOver.
func (u *successor) ended() {
	if u.over {
		return
	}
	u.over = true
	var err error
	if u.asked {
		err = fmt.Errorf("it ended, or was not ready within %s", u.co.patience)
	} else {
		err = <-u.done
	}
	u.lastWords()
	if err == nil {
		// Ready without Commit: no release of ours does that.
		err = errors.New("the next master took over without asking for the workers")
	}
	u.co.handle(lifecycle.NotUpgraded{Err: u.explain(err)})
	go runtime.GC() // tableflip leaves what it was given, and has duplicated, to the collector
}

// explain adds what the next master said to what tableflip saw.
func (u *successor) explain(err error) error {
	if u.asked {
		if u.failed != "" {
			err = errors.New(u.failed)
		}
		return fmt.Errorf("takeover by the master with pid %d: %w", u.pid, err)
	}
	if u.failed != "" {
		return fmt.Errorf("start %s: %w: %s", os.Args[0], err, u.failed)
	}
	if strings.HasSuffix(err.Error(), "timed out") { // tableflip's only word for it
		return fmt.Errorf("start %s: it was not ready within %s (the start_timeout that this master was started with, and a second) and was killed: %w",
			os.Args[0], u.co.patience, err)
	}
	if why := unfit(os.Args[0]); why != "" {
		return fmt.Errorf("start %s: %s", os.Args[0], why)
	}
	if strings.HasSuffix(err.Error(), " exited") { // likewise
		err = fmt.Errorf("%w without a word of its own: see the log, and whether `%s version` works", err, os.Args[0])
	}
	return fmt.Errorf("start %s: %w", os.Args[0], err)
}

// unfit says why the file at a path can't be executed, and what to do, where that is plain to see;
// tableflip names the path three times instead.
func unfit(path string) string {
	st, err := os.Stat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return "there is no such file: put the next binary there and try again"
	case err != nil:
		return err.Error()
	case st.IsDir():
		return "it is a directory: put the next binary there and try again"
	case st.Mode()&0o111 == 0:
		return "it is not executable: chmod +x it and try again"
	}
	return ""
}

// handOver gives the workers away. From here on this master does nothing but
// wait: either the next one is ready, and it goes; or tableflip gives that one
// up, and it goes on as if nothing had been.
func (u *successor) handOver() {
	u.over = true
	co := u.co
	defer aliveWhile(co.patience + parentTimeout + receiptTimeout)()
	co.neglectAll()
	if err := co.sendWorkers(u.ch); err != nil {
		co.log.Error().Err(err).Msg("can't send the workers to the next master")
	}
	_ = failpoint.Hit("custody-sent")
	if err := u.ready(); err != nil {
		u.takeBack()
		co.handle(lifecycle.NotUpgraded{Err: u.explain(err), Woken: true})
		return
	}
	u.leave()
}

// neglectAll stops reading from the workers, when all that was to be told them is told
// and written down. What they had said may have started others.
func (co *coordinator) neglectAll() {
	neglected := make(map[*proc]bool)
	for more := true; more; {
		more = false
		for _, p := range co.procs {
			if neglected[p] {
				continue
			}
			neglected[p], more = true, true
			if err := p.neglect(); err != nil {
				co.log.Error().Err(err).Msg("can't let go of a worker")
			}
		}
	}
	co.quiet = false
	co.endTurn()
}

// ready waits for the next master's readiness.
func (u *successor) ready() error {
	if !u.asked {
		return <-u.done
	}
	_ = u.ch.SetReadDeadline(time.Now().Add(u.co.patience))
	m, err := u.ch.Recv()
	switch {
	case err != nil:
		return fmt.Errorf("the other master did not become ready: %w", err)
	case m.Kind == wire.KindFailed:
		var b wire.Failed
		_ = m.Decode(&b)
		return errors.New(b.Error)
	case m.Kind != wire.KindTaken:
		return fmt.Errorf("the other master says %s before it is ready", m.Kind)
	}
	return nil
}

// takeBack goes on with the workers where handOver stopped.
func (u *successor) takeBack() {
	u.lastWords()
	for _, p := range u.co.procs {
		if err := p.resume(); err != nil {
			u.co.log.Error().Err(err).Msg("can't go on with a worker")
		}
	}
}

// lastWords reads what the next master, which is dead by now or hangs, may have
// said of its reasons, and closes the channel. There is no end of file to wait for:
// this process holds the other end too, for tableflip. A master that only hung
// must not take the end of the channel for this one's death.
func (u *successor) lastWords() {
	_ = u.ch.Send(wire.KindFailed, wire.Failed{Error: "the old master has given this one up"})
	_ = u.co.lock.WritePID()
	_ = u.ch.StopReading()
	<-u.listened
	for {
		_ = u.ch.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		m, err := u.ch.Recv()
		if err != nil {
			break
		}
		var b wire.Failed
		if m.Kind == wire.KindFailed && m.Decode(&b) == nil {
			u.failed = b.Error
		}
		m.Close()
	}
	_ = u.ch.Close()
}

// leave tells the next master that everything is its, waits for its cut-over so
// as to answer whoever asked for the upgrade, and ends this master.
func (u *successor) leave() {
	co := u.co
	co.recording = false // from here on it is the next one's
	if err := u.ch.Send(wire.KindGoodbye, struct{}{}); err != nil {
		co.log.Error().Err(err).Msg("the next master took over and is gone")
	}
	_ = u.ch.SetReadDeadline(time.Now().Add(receiptTimeout))
	action, _ := co.core.Change()
	r := &control.Receipt{Action: action, PID: u.pid}
	m, err := u.ch.Recv()
	switch {
	case err == nil && m.Kind == wire.KindReceipt:
		err = m.Decode(r)
	case err == nil:
		err = fmt.Errorf("%s came instead of its receipt", m.Kind)
	case errors.Is(err, io.EOF):
		err = errors.New("it has ended before its cut-over; workers serve on without a master: start one again")
	}
	if err != nil {
		co.exit(1)
		r.OK, r.Error = false, fmt.Sprintf("the next master (pid %d) took over, but: %v", u.pid, err)
	}
	if !u.asked { // else it is another service's
		// What the next master says of itself is not listened to before this.
		_ = sdnotify.Status(fmt.Sprintf("generation %d serves", r.Generation))
		if err := sdnotify.Ready(u.pid); err != nil {
			co.log.Error().Err(err).Msg("can't tell the service manager of the next master")
		}
	}
	co.handle(lifecycle.Superseded{Receipt: r})
	co.next = u.pid
	co.exit(0)
}

// forward passes on to the next master the signals that came too late for this
// one, and those that it had taken but not acted on.
func (co *coordinator) forward(signals <-chan os.Signal) {
	if co.next == 0 {
		return
	}
	for range co.core.ReloadsWaiting() {
		_ = unix.Kill(co.next, unix.SIGHUP)
	}
	for {
		select {
		case sig := <-signals:
			if s, ok := sig.(unix.Signal); ok {
				_ = unix.Kill(co.next, s)
			}
		default:
			return
		}
	}
}
