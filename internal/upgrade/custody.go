package upgrade

import (
	"fmt"

	"golang.org/x/sys/unix"

	"reuseportd/internal/control"
	"reuseportd/internal/custody"
	"reuseportd/internal/lifecycle"
	"reuseportd/internal/wire"
)

// What this master has, as it gives it to the next one.

// sendSockets sends the first part.
func (co *coordinator) sendSockets(ch *wire.Conn, back *lifecycle.Prior) error {
	if err := co.sendFiles(ch, back); err != nil {
		return err
	}
	for _, s := range co.core.Sockets() {
		for first := 0; first < s.Len(); first += wire.MaxFDs {
			part := &custody.Shards{Key: s.Key(), First: first, Total: s.Len(), Unordered: s.Unordered(), Retiring: s.Retiring}
			fds := s.FDs()[first:min(first+wire.MaxFDs, s.Len())]
			if err := ch.Send(wire.KindCustody, custody.Part{Shards: part}, fds...); err != nil {
				return err
			}
		}
	}
	return ch.Send(wire.KindCustodyEnd, co.core.Numbers())
}

// sendFiles sends what the service has once.
func (co *coordinator) sendFiles(ch *wire.Conn, back *lifecycle.Prior) error {
	names := []string{custody.FileLock, custody.FileLedger, custody.FileBoard, custody.FileClients}
	fds := []int{co.lock.FD(), co.tables.Ledger.FD(), co.tables.Board.FD(), co.tables.Clients.FD()}
	var own []int // closed when they are sent
	defer func() {
		for _, fd := range own {
			_ = unix.Close(fd)
		}
	}()
	add := func(name string, fd int, err error) error {
		if err == nil {
			names, fds, own = append(names, name), append(fds, fd), append(own, fd)
		}
		return err
	}
	listener, err := control.Dup(co.listener)
	if err := add(custody.FileControl, listener, err); err != nil {
		return err
	}
	if image, err := unix.Open("/proc/self/exe", unix.O_RDONLY|unix.O_CLOEXEC, 0); err == nil {
		_ = add(custody.FileImage, image, nil)
	}
	if tickets := co.core.Tickets(); tickets != nil {
		fd, err := wire.Memfd("reuseportd-tickets", tickets.Encode())
		if err := add(custody.FileMaterials, fd, err); err != nil {
			return err
		}
	}
	if back != nil {
		fd, err := wire.Memfd("reuseportd-config", back.Conf.Raw)
		if err := add(custody.FileConfig, fd, err); err != nil {
			return err
		}
	}
	return ch.Send(wire.KindCustody, custody.Part{Files: names}, fds...)
}

// sendWorkers sends the second part. Nobody may be reading from the workers.
func (co *coordinator) sendWorkers(ch *wire.Conn) error {
	for _, g := range co.core.Generations() {
		if err := sendGeneration(ch, &g); err != nil {
			return err
		}
		for i := range g.Workers {
			if err := co.sendWorker(ch, &g.Workers[i]); err != nil {
				return err
			}
		}
	}
	return ch.Send(wire.KindCustodyEnd, co.core.Numbers())
}

func sendGeneration(ch *wire.Conn, g *lifecycle.Generation) error {
	raw, err := wire.Memfd("reuseportd-config", g.Conf.Raw)
	if err != nil {
		return err
	}
	defer unix.Close(raw)
	part := g.Generation
	part.Conf = custody.Essence(g.Conf)
	if err := ch.Send(wire.KindCustody, custody.Part{Generation: &part}, raw); err != nil || g.Load == nil {
		return err
	}
	return ch.Send(wire.KindCustody, custody.Part{Files: []string{fmt.Sprint(custody.FileLoad, g.ID)}}, g.Load.FD())
}

// sendWorker sends a worker that has a process, or waits to be started again.
func (co *coordinator) sendWorker(ch *wire.Conn, w *custody.Worker) error {
	id := lifecycle.ID{Generation: w.Generation, Index: w.Index}
	p := co.procs[id]
	if p == nil && !lifecycle.Backoff(w) {
		return nil
	}
	var fds []int
	if p != nil {
		channel, err := p.ch.Dup()
		if err != nil {
			return err
		}
		defer unix.Close(channel)
		fds = []int{channel, p.pidfd}
	}
	w.Leases, w.Waiting = co.core.Leases(id)
	return ch.Send(wire.KindCustody, custody.Part{Worker: w}, fds...)
}
