package upgrade

import (
	"os"
	"time"

	"golang.org/x/sys/unix"

	"reuseportd/internal/cgroup"
	"reuseportd/internal/lifecycle"
	"reuseportd/internal/wire"
)

// handle tells the core of an event, and does what it wants. What is told while that is being done is dealt with at
// once, and done after it: the core's wishes are carried out in the order in which it had them.
func (co *coordinator) handle(ev lifecycle.Event) {
	co.todo = append(co.todo, co.core.Handle(time.Now(), ev)...)
	if co.acting {
		return
	}
	co.acting = true
	for len(co.todo) > 0 {
		a := co.todo[0]
		co.todo = co.todo[1:]
		co.act(a)
	}
	co.acting = false
}

// act does one thing that the core wants.
func (co *coordinator) act(a lifecycle.Action) {
	switch a := a.(type) {
	case lifecycle.Load, lifecycle.OpenLogs, lifecycle.ReadMaterials, lifecycle.Prepare, lifecycle.Touch:
		co.doErrand(a)
	case lifecycle.WatchMaterials:
		co.watchMaterials(a.Paths)
	case lifecycle.Later:
		time.AfterFunc(a.Delay, func() { co.post(func() { co.handle(a.Event) }) })
	case lifecycle.KeepLogs:
		co.gens[a.Generation] = &genFiles{logs: a.Logs.(*logFiles)}
	case lifecycle.Forget:
		co.forget(a.Generation)
	case lifecycle.Measure:
		co.handle(co.measure())
	case lifecycle.Spawn:
		co.spawn(a)
	case lifecycle.Send, lifecycle.Lend, lifecycle.SendMaterials, lifecycle.Kill, lifecycle.Release:
		co.actOnWorker(a)
	case lifecycle.Introduce:
		if err := co.introduce(a); err != nil {
			co.handle(lifecycle.NotIntroduced{Introduce: a, Err: err})
		}
	case lifecycle.StartUpgrade:
		co.startUpgrade(a.Back)
	case lifecycle.StartTakeover:
		co.startTakeover(a.Answer)
	case lifecycle.CancelUpgrade:
		co.cancelUpgrade()
	case lifecycle.Commit:
		co.handle(lifecycle.Committed{Err: co.commit()})
	case lifecycle.Keep:
		co.keepReceipts(a.Receipts)
	case lifecycle.Switched:
		co.switched(a.Receipt)
	case lifecycle.Reloading:
		co.reloading()
	case lifecycle.Exit:
		co.exit(a.Status)
	case lifecycle.Tell:
		a.To(a.Response)
	case lifecycle.Discard:
		_ = a.Image.Close()
	}
}

// actOnWorker does what the core wants of a worker's process, if there is one.
func (co *coordinator) actOnWorker(a lifecycle.Action) {
	switch a := a.(type) {
	case lifecycle.Send:
		co.send(a.ID, a.Kind, a.Body)
	case lifecycle.Lend:
		var fds []int
		for _, le := range a.Body.Leases {
			fds = append(fds, co.core.Shard(le.Key, le.Index))
		}
		co.send(a.ID, wire.KindLend, a.Body, fds...)
	case lifecycle.SendMaterials:
		fd, err := wire.Memfd("reuseportd-materials", a.Set.Encode())
		if err != nil {
			co.log.Error().Err(err).Msg("a worker can't be sent new contents of files; they are sent with the next ones")
			co.handle(lifecycle.MaterialsUnsent{ID: a.ID})
			return
		}
		co.send(a.ID, wire.KindMaterials, wire.Materials{Number: a.Set.Number}, fd)
		_ = unix.Close(fd)
	case lifecycle.Kill:
		if p := co.procs[a.ID]; p != nil {
			p.kill(a.Signal)
		}
	case lifecycle.Release:
		if p := co.procs[a.ID]; p != nil {
			delete(co.procs, a.ID)
			p.close()
		}
	}
}

// send has a message go out to a worker at the end of the turn.
func (co *coordinator) send(id lifecycle.ID, kind wire.Kind, body any, fds ...int) {
	p := co.procs[id]
	if p == nil {
		return
	}
	if err := p.send(kind, body, fds...); err != nil {
		co.mute(id, err)
	}
}

// mute tells the core that a worker can't be told something.
func (co *coordinator) mute(id lifecycle.ID, err error) {
	co.handle(lifecycle.WorkerMute{ID: id, Why: err.Error()})
}

// introduce gives a draining loop and a serving one a channel.
func (co *coordinator) introduce(a lifecycle.Introduce) error {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return err
	}
	co.send(a.From.ID, wire.KindHeir, wire.Heir{ID: a.ID, Generation: a.To.ID.Generation, Slot: a.From.Slot}, pair[0])
	co.send(a.To.ID, wire.KindWard, wire.Ward{Generation: a.From.ID.Generation, PID: a.From.PID, Slot: a.To.Slot}, pair[1])
	_ = unix.Close(pair[0])
	_ = unix.Close(pair[1])
	return nil
}

// measure asks the control group. Until the master that came before has let go, its workers have half.
func (co *coordinator) measure() (m lifecycle.Measured) {
	if co.group == nil {
		return m
	}
	m.Room, m.Bounded = co.group.Room()
	if co.pred != nil {
		m.Room /= 2
	}
	return m
}

// findGroup looks for the control group that bounds the service.
func (co *coordinator) findGroup() {
	var err error
	if co.group, err = cgroup.Find(os.DirFS("/")); err != nil {
		co.log.Warn().Err(err).Msg("memory is not bounded by the control group: say max_memory if it should be bounded")
	}
}
