package hostile

import (
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"reuseportd/internal/control"
	"reuseportd/internal/custody"
	"reuseportd/internal/wire"
)

// takeOver is a next master that asks for the custody and gives it up at a step, having said
// anything before. Its last steps, with which it would be the master, are never taken.
func takeOver(r *rand.Rand, a *account, dir string, null int, end time.Time) {
	ctx, cancel := context.WithDeadline(context.Background(), end)
	defer cancel()
	client, err := control.DialContext(ctx, dir, false)
	if err != nil {
		a.count("next master: nobody there")
		time.Sleep(10 * time.Millisecond)
		return
	}
	defer client.Close()
	resp, err := client.Do(ctx, control.Request{Command: "takeover", Cause: "hostile"})
	if err != nil || resp.File == nil {
		a.count("next master: no custody given")
		return
	}
	defer resp.File.Close()
	fd, err := unix.FcntlInt(resp.File.Fd(), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return
	}
	ch, err := wire.FromFD(fd)
	if err != nil {
		return
	}
	defer ch.Close()
	_ = ch.SetReadDeadline(time.Now().Add(time.Second))
	step := r.IntN(5)
	a.count("next master: gives up at step " + string(rune('0'+step)))
	if step > 0 && ch.Send(wire.KindHello, custody.Hello{PID: int(r.Int32()), Version: "\x1b[2J"}) == nil {
		a.sent("next master", wire.KindHello)
	}
	if step > 1 {
		receive(ch)
	}
	if step > 2 {
		_ = ch.Send(wire.KindCommit, struct{}{})
		a.sent("next master", wire.KindCommit)
		receive(ch)
	}
	for range r.IntN(20) * (step / 4) {
		kind := pick(r, anybody)
		if kind == wire.KindTaken || kind == wire.KindReceipt { // the first of these is the truth
			continue
		}
		b, fds := datagram(r, kind)
		if say(int(resp.File.Fd()), null, b, fds) == nil {
			a.sent("next master", kind)
		}
	}
}

func receive(ch *wire.Conn) {
	for {
		m, err := ch.Recv()
		m.Close()
		if err != nil || m.Kind == wire.KindCustodyEnd {
			return
		}
	}
}

// callRescues connects to all rescues, as a next master of living workers would.
func callRescues(r *rand.Rand, a *account, dir string, null int) {
	paths, _ := filepath.Glob(filepath.Join(dir, "worker-*.sock"))
	for _, path := range paths {
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			return
		}
		if unix.Connect(fd, &unix.SockaddrUnix{Name: path}) == nil {
			for range r.IntN(5) {
				kind := pick(r, anybody)
				b, fds := datagram(r, kind)
				if say(fd, null, b, fds) == nil {
					a.sent("rescue", kind)
				}
			}
		} else {
			a.count("rescue: refused")
		}
		_ = unix.Close(fd)
	}
}

// pester says anything to the control socket but what changes something.
func pester(r *rand.Rand, a *account, dir string) {
	conn, err := net.DialTimeout("unix", filepath.Join(dir, control.SocketName), time.Second)
	if err != nil {
		a.count("control: no connection")
		time.Sleep(time.Millisecond)
		return
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(200 * time.Millisecond))
	object := fields(r, 0)
	object["command"] = pick(r, []any{"status", "", "Status", 1, nil, "wait", "pprof"})
	text, _ := json.Marshal(object)
	switch r.IntN(4) {
	case 0:
		text = noise(r, r.IntN(100<<10))
	case 1:
		text = text[:r.IntN(len(text))]
	default:
		text = append(text, '\n')
	}
	_, _ = conn.Write(text)
	if r.IntN(2) == 0 {
		if _, err := conn.Read(make([]byte, 4096)); errors.Is(err, os.ErrDeadlineExceeded) {
			a.count("control: without an answer in 200 ms")
		}
	}
	a.count("control: requests")
}
