package hostile

import (
	"math/rand/v2"
	"time"

	"golang.org/x/sys/unix"

	"reuseportd/internal/wire"
)

// answer is a hostile orphan: in the place of a stopped worker it answers the next master at
// the rescue with the truth, of which some is left out, said again or changed.
func (l *loot) answer(r *rand.Rand, a *account, null, bystander int, end time.Time) {
	fd := -1
	for fd < 0 {
		if time.Now().After(end) {
			return
		}
		fds := []unix.PollFd{{Fd: int32(l.Rescue), Events: unix.POLLIN}}
		_, _ = unix.Poll(fds, 50)
		if got, _, err := unix.Accept4(l.Rescue, unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK); err == nil {
			fd = got
		}
	}
	ch, err := wire.FromFD(fd)
	if err != nil {
		return
	}
	defer ch.Close()
	_ = ch.SetReadDeadline(end)
	_ = ch.SetWriteDeadline(end)
	if m, err := ch.Recv(); err == nil {
		m.Close()
	}
	pidfd, _ := unix.PidfdOpen(bystander, 0)
	defer unix.Close(pidfd)
	for _, p := range l.parts(pidfd, bystander) {
		for range pick(r, []int{0, 1, 1, 1, 1, 1, 1, 1, 2, 50}) {
			if r.IntN(3) == 0 {
				change(r, p.body)
			}
			fds := p.fds
			if r.IntN(8) == 0 {
				fds = pick(r, [][]int{nil, {null}, {l.Board, l.Ledger}, {l.Channel}, {pidfd}, {pidfd, null, null}})
			}
			if err := ch.Send(p.kind, p.body, fds...); err != nil {
				a.count("orphan→master: cut off")
				return
			}
			a.sent("orphan→master", p.kind)
		}
	}
	for { // the master's verdict is the channel's end
		m, err := ch.Recv()
		if err != nil {
			return
		}
		m.Close()
		a.count("orphan→master: a message of the master's read")
		_ = ch.Send(pick(r, toMaster), fields(r, 0))
	}
}

type part struct {
	kind wire.Kind
	body map[string]any
	fds  []int
}

// parts are what the worker would say, but for its configuration, and another process as its own.
func (l *loot) parts(pidfd, pid int) []part {
	var leased []any
	var shards []int
	for address, fd := range l.Shards {
		leased = append(leased, map[string]any{"key": "tcp4!" + address, "index": l.slot, "slot": l.slot})
		shards = append(shards, fd)
	}
	return []part{
		{wire.KindCustody, map[string]any{"files": []any{"ledger", "board"}}, []int{l.Ledger, l.Board}},
		{wire.KindCustody, map[string]any{"leased": leased}, shards},
		{wire.KindCustody, map[string]any{"worker": map[string]any{
			"generation": l.generation, "index": l.slot, "slots": []any{l.slot}, "pid": pid, "state": "gone",
		}}, []int{pidfd}},
		{wire.KindCustodyEnd, map[string]any{"last_id": l.generation, "seq": 1}, nil},
	}
}

// change changes one thing somewhere in an object.
func change(r *rand.Rand, object map[string]any) {
	for name, v := range object {
		if inner, ok := v.(map[string]any); ok && r.IntN(4) > 0 {
			change(r, inner)
			return
		}
		if list, ok := v.([]any); ok && len(list) > 0 && r.IntN(4) > 0 {
			if inner, ok := list[r.IntN(len(list))].(map[string]any); ok {
				change(r, inner)
				return
			}
			list[r.IntN(len(list))] = value(r, 2)
			return
		}
		if r.IntN(2) == 0 {
			object[name] = value(r, 2)
			return
		}
	}
	object[pick(r, names)] = value(r, 2)
}
