package worker

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"reuseportd/internal/custody"
	"reuseportd/internal/failpoint"
	"reuseportd/internal/wire"
)

// helloTimeout is how long a process that has connected to the rescue may take
// to say that it is a master.
const helloTimeout = 3 * time.Second

// rescueQueue is how many masters may die while they wait for a worker that hangs. The
// next one would find no place in the queue, and couldn't ask the kernel which process to
// end.
const rescueQueue = 128

// listenRescue makes the listening socket at which this worker waits for a master if it
// becomes an orphan, from one that its master has bound; nil if there is none.
func listenRescue(fd int) (*os.File, error) {
	if fd < 0 {
		return nil, nil
	}
	if err := unix.Listen(fd, rescueQueue); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("listen for a master that may come: %w", err)
	}
	return os.NewFile(uintptr(fd), wire.FileRescue), nil
}

// renewRescue replaces the descriptors that came with Start by new ones. A living master has
// sent them, so no other waits at the old rescue; whoever has connected to it is cut off and
// may try again.
func (w *worker) renewRescue(files files) error {
	if held := files.take(wire.FileRunDir); held >= 0 {
		if w.held >= 0 {
			_ = unix.Close(w.held)
		}
		w.held = held
	}
	rescue, err := listenRescue(files.take(wire.FileRescue))
	if err != nil || rescue == nil {
		return err
	}
	if w.rescue != nil {
		_ = w.rescue.Close()
	}
	w.rescue = rescue
	return nil
}

// orphaned is called when the master is gone. A worker that serves goes on; one that was
// never lent a shard exits.
func (w *worker) orphaned() {
	w.orphan = true
	if !w.lent {
		w.exit = true
		return
	}
	w.log.Warn().Msg("the master is gone; serving on without it")
	if w.rescue != nil {
		go w.awaitMaster()
	}
}

// awaitMaster waits at the rescue until a new master comes.
func (w *worker) awaitMaster() {
	for {
		ch, err := w.acceptMaster()
		switch {
		case err == nil:
			w.mail.post(func() { w.adopted(ch) })
			return
		case errors.Is(err, os.ErrClosed):
			return
		}
		w.mail.post(func() { w.log.Warn().Err(err).Msg("somebody at the rescue is no master") })
		time.Sleep(10 * time.Millisecond)
	}
}

// acceptMaster accepts one connection that says hello, from the master's user or root.
func (w *worker) acceptMaster() (*wire.Conn, error) {
	fd, err := w.acceptRescue()
	if err != nil {
		return nil, err
	}
	cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil || cred.Uid != 0 && cred.Uid != w.master {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("permission denied: it is neither root nor uid %d", w.master)
	}
	ch, err := wire.FromFD(fd)
	if err != nil {
		return nil, err
	}
	_ = ch.SetReadDeadline(time.Now().Add(helloTimeout))
	m, err := ch.Recv()
	m.Close()
	if err == nil && m.Kind != wire.KindHello {
		err = fmt.Errorf("it says %s", m.Kind)
	}
	if err != nil {
		_ = ch.Close()
		return nil, err
	}
	return ch, ch.ResumeReading()
}

func (w *worker) acceptRescue() (int, error) {
	raw, err := w.rescue.SyscallConn()
	if err != nil {
		return -1, err
	}
	fd := -1
	rerr := raw.Read(func(s uintptr) bool {
		for {
			fd, _, err = unix.Accept4(int(s), unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
			if !errors.Is(err, unix.EINTR) {
				return !errors.Is(err, unix.EAGAIN)
			}
		}
	})
	return fd, errors.Join(rerr, err)
}

// shardOf is a shard that a loop accepts from.
type shardOf struct {
	wire.Lease
	fd int // a duplicate
}

// adopted makes the process at the other end of ch this worker's master, and sends it
// what the worker has.
func (w *worker) adopted(ch *wire.Conn) {
	_ = failpoint.Hit("adopt-answer")
	shards := make([][]shardOf, len(w.loops))
	w.onLoops(func(lp *loop) error {
		for i := range w.loops {
			if w.loops[i] == lp {
				shards[i] = lp.shards()
			}
		}
		return nil
	}, func(error) {
		var all []shardOf
		for _, s := range shards {
			all = append(all, s...)
		}
		err := w.handIn(ch, all)
		for _, s := range all {
			_ = unix.Close(s.fd)
		}
		if err != nil {
			w.log.Error().Err(err).Msg("can't hand over to a new master")
			_ = ch.Close()
			go w.awaitMaster()
			return
		}
		old := w.ch
		w.ch, w.orphan = ch, false
		_ = old.Close()
		go w.receive()
		w.log.Info().Msg("a new master has taken over")
		w.wakeIfEmpty()
	})
}

// shards returns duplicates of the sockets that the loop accepts from.
func (lp *loop) shards() []shardOf {
	var all []shardOf
	for id, ln := range lp.leases {
		fd, err := unix.FcntlInt(uintptr(ln.FD()), unix.F_DUPFD_CLOEXEC, 3)
		if err == nil {
			all = append(all, shardOf{wire.Lease{Key: id.key, Index: id.index, Slot: lp.slot}, fd})
		}
	}
	return all
}

// handIn sends what the worker is and has.
func (w *worker) handIn(ch *wire.Conn, shards []shardOf) error {
	_ = ch.SetWriteDeadline(time.Now().Add(5 * time.Second))
	names, fds := []string{custody.FileLedger, custody.FileBoard}, []int{w.region.FD(), w.board.FD()}
	if w.clients != nil {
		names, fds = append(names, custody.FileClients), append(fds, w.clients.FD())
	}
	if w.materials != nil {
		if fd, err := wire.Memfd("reuseportd-materials", w.materials.Encode()); err == nil {
			defer unix.Close(fd)
			names, fds = append(names, custody.FileMaterials), append(fds, fd)
		}
	}
	err := ch.Send(wire.KindCustody, custody.Part{Files: names}, fds...)
	var leases []custody.Lease
	for len(shards) > 0 && err == nil {
		batch := shards[:min(len(shards), wire.MaxFDs)]
		shards = shards[len(batch):]
		var part custody.Part
		var fds []int
		for _, s := range batch {
			s.Unordered = w.unordered[s.Key]
			part.Leased = append(part.Leased, s.Lease)
			fds = append(fds, s.fd)
			leases = append(leases, custody.Lease{Lease: s.Lease, Acknowledged: true})
		}
		err = ch.Send(wire.KindCustody, part, fds...)
	}
	if err != nil {
		return err
	}
	state, now := "serving", time.Now()
	if w.draining {
		state = "draining"
	}
	memfd, err := wire.Memfd("reuseportd-config", w.conf.Raw)
	if err != nil {
		return err
	}
	defer unix.Close(memfd)
	err = ch.Send(wire.KindCustody, custody.Part{Generation: &custody.Generation{
		ID: w.start.Generation, State: state, Since: now, Deadline: w.drainUntil, Base: w.base,
		Conf: custody.Essence(w.conf),
	}}, memfd)
	if err == nil && w.load != nil {
		name := fmt.Sprint(custody.FileLoad, w.start.Generation)
		err = ch.Send(wire.KindCustody, custody.Part{Files: []string{name}}, w.load.FD())
	}
	if err != nil {
		return err
	}
	pidfd, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		return fmt.Errorf("pidfd_open: %w", err)
	}
	defer unix.Close(pidfd)
	err = ch.Send(wire.KindCustody, custody.Part{Worker: &custody.Worker{
		Generation: w.start.Generation, Index: w.start.Index, Slots: w.start.Slots, Page: w.start.Page,
		PID: os.Getpid(), State: state, Since: now, Leases: leases,
	}}, pidfd)
	if err != nil {
		return err
	}
	return ch.Send(wire.KindCustodyEnd, custody.End{LastID: w.start.Generation, Seq: w.seq})
}
