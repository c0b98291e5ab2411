package shard

import (
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"reuseportd/internal/sockdiag"
)

// SO_REUSEPORT lets any socket of this user join an address, and the kernel spreads clients over
// all of them: two services with one address would each get half of them without noticing. So
// the first shard of an address listens alone (listenFirst), which the kernel allows only where
// nobody else listens; and Look asks before anything is started.

// workerTitle is how the command line of a worker begins (worker.Name).
const workerTitle = "reuseportd: worker"

// TakenError says that others listen at a group's address, or at one that overlaps it.
type TakenError struct {
	Holders []sockdiag.Holder
	text    string
}

func (e *TakenError) Error() string { return e.text }
func (e *TakenError) Unwrap() error { return unix.EADDRINUSE }

// SetOwn sets the groups of the service, whose sockets are not those of others. The group
// itself may be among them.
func (g *Group) SetOwn(own iter.Seq[*Group]) { g.own = own }

// eachOwn calls f for each group of the service, this one too.
func (g *Group) eachOwn(f func(*Group)) {
	f(g)
	if g.own != nil {
		for o := range g.own {
			if o != g {
				f(o)
			}
		}
	}
}

// Share reports whether the listener lets others listen at its address.
func (g *Group) Share() bool { return g.tuning.share }

// Others returns the listening sockets of others at the group's address, or at one that overlaps it: a wildcard
// of the same port, or an address that it covers. Of a Unix socket they are those that were bound to its path
// after it was lost. They are looked for in t, or, if t is nil, the kernel is asked. An error says that the
// kernel doesn't tell.
func (g *Group) Others(t *sockdiag.Table) ([]sockdiag.Socket, error) {
	if g.addr.unix() && g.listening > 0 && !g.Lost() {
		return nil, nil
	}
	var found []sockdiag.Socket
	err := g.eachListening(t, func(s sockdiag.Socket) { found = append(found, s) })
	if err != nil {
		return nil, g.fail("look who else listens at", err)
	}
	g.eachOwn(func(o *Group) {
		cookies, cerr := o.Cookies()
		err = errors.Join(err, cerr)
		found = slices.DeleteFunc(found, func(s sockdiag.Socket) bool { return slices.Contains(cookies, s.Cookie) })
	})
	return found, err
}

// eachListening calls f for each listening socket that gets connections to the group's address.
func (g *Group) eachListening(t *sockdiag.Table, f func(sockdiag.Socket)) error {
	if g.addr.unix() {
		return g.addr.eachBound(f)
	}
	ask := func(family uint8, port uint16, f func(sockdiag.Socket)) error {
		return sockdiag.TCP(family, sockdiag.Listen, port, f)
	}
	if t != nil {
		ask = t.Each
	}
	families := []uint8{uint8(g.addr.family())}
	if g.addr.network == "tcp4" {
		families = append(families, unix.AF_INET6) // a socket without IPV6_V6ONLY gets IPv4, too
	}
	for _, family := range families {
		err := ask(family, g.addr.tcp.Port(), func(s sockdiag.Socket) {
			if g.addr.overlaps(&s) {
				f(s)
			}
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// overlaps reports whether a connection may reach both s and a socket of the address.
func (a *address) overlaps(s *sockdiag.Socket) bool {
	other := s.Local.Addr()
	if a.tcp.Addr().Is4() && !other.Is4() {
		if s.V6Only || !other.IsUnspecified() && !other.Is4In6() {
			return false
		}
		other = other.Unmap()
	}
	return a.covers(other)
}

// covers reports whether an address of the same port and family equals a's, or one of the two
// is the wildcard.
func (a *address) covers(other netip.Addr) bool {
	ip := a.tcp.Addr().WithZone("")
	return ip == other || ip.IsUnspecified() || other.IsUnspecified()
}

// Look returns a TakenError if others (Others) listen at the address, unless the listener
// and they share it. Any other error says that this can't be found out.
func (g *Group) Look(t *sockdiag.Table) error {
	others, err := g.Others(t)
	if err != nil || g.addr.unix() {
		return err
	}
	if g.Share() {
		kept := others[:0]
		for _, s := range others {
			if s.Exclusive {
				kept = append(kept, s)
			}
		}
		others = kept
	}
	if len(others) == 0 {
		return nil
	}
	return g.taken(others)
}

// taken makes the error that says who has the address, and what to do.
func (g *Group) taken(others []sockdiag.Socket) error {
	e := &TakenError{Holders: sockdiag.Holders(others)}
	hint := "end it or give this listener another address; two services of one user share an address if both say `share: true`"
	if g.Share() {
		hint = "it doesn't say `share: true`, as this listener does; both must"
	}
	if len(e.Holders) > 0 && strings.HasPrefix(e.Holders[0].Command, workerTitle) { // not a child of a process that has the socket, too
		hint = "their master is gone: start one with the runtime directory that it had, or end them"
	}
	if closing(others) {
		hint = "it is just giving the address up; try again"
	}
	e.text = fmt.Sprintf("listen %s: %v: %s (%s)", g.what(), unix.EADDRINUSE, g.who(e.Holders), hint)
	return e
}

// closing reports whether all sockets are about to be closed.
func closing(others []sockdiag.Socket) bool { return !slices.ContainsFunc(others, Answers) }

// Answers reports whether a listening socket gets new connections, that is, isn't hidden.
func Answers(s sockdiag.Socket) bool { return s.Interface != noInterface }

// who names the processes that listen, and where, if that is another address.
func (g *Group) who(holders []sockdiag.Holder) string {
	const most = 3
	var parts []string
	for _, h := range holders[:min(len(holders), most)] {
		text := h.String() + " listens there"
		if at := h.Socket.Local; !g.addr.unix() && at.Addr() != g.addr.tcp.Addr().WithZone("") {
			text = h.String() + " listens at " + at.String() + ", which overlaps it"
		}
		parts = append(parts, text)
	}
	for _, h := range holders {
		if h.PID == 0 && !g.addr.unix() {
			parts = append(parts, fmt.Sprintf("root sees it with `ss -ltnpe 'sport = :%d'`", g.addr.tcp.Port()))
			break
		}
	}
	if n := len(holders) - most; n > 0 {
		parts = append(parts, fmt.Sprintf("%d more", n))
	}
	return strings.Join(parts, "; ")
}

// holder names the process that listens at the address, for an error of the kernel; "" if unknown.
func (g *Group) holder() string {
	others, err := g.Others(nil)
	if err != nil || len(others) == 0 {
		return ""
	}
	return g.who(sockdiag.Holders(others))
}

// listenFirst makes the first shard listen, unless somebody else listens at the address.
//
// It listens without SO_REUSEPORT: so the kernel refuses it while any other socket listens at the
// address or at one that overlaps it, and of two services that start at the same time exactly one gets
// it. The other service never has a queue. Then SO_REUSEPORT is set again, so that the group's other
// shards can join.
func (g *Group) listenFirst() error {
	if g.addr.unix() || g.Share() || g.overlapsOwn() {
		return g.listenBeside()
	}
	return again(func() error {
		err := g.listenAlone()
		if errors.Is(err, unix.EADDRINUSE) {
			if taken := (*TakenError)(nil); errors.As(g.Look(nil), &taken) {
				return taken
			}
		}
		return err
	})
}

// again calls listen until it succeeds, or a process that is in the way can be named: of two that
// listen in the same microsecond the kernel may refuse both.
func again(listen func() error) (err error) {
	const tries = 6
	for try := range tries {
		err = listen()
		if taken := (*TakenError)(nil); !errors.Is(err, unix.EADDRINUSE) || errors.As(err, &taken) {
			return err
		}
		time.Sleep(rand.N(time.Millisecond << try))
	}
	return err
}

// listenAlone is listen(2) without SO_REUSEPORT.
func (g *Group) listenAlone() error {
	fd := g.shards[0]
	reuse := func(on int) error {
		return setAll(fd, []option{{"SO_REUSEPORT", unix.SOL_SOCKET, unix.SO_REUSEPORT, on}})
	}
	if err := makeKernelGroup(fd); err != nil {
		return g.listenBeside() // before Linux 4.5: as with share
	}
	if err := reuse(0); err != nil {
		return err
	}
	err := unix.Listen(fd, g.backlog)
	if err == nil {
		g.listening = 1
	}
	return errors.Join(err, reuse(1))
}

// makeKernelGroup makes the kernel create the group that steering programs belong to: listen(2) does so
// only with SO_REUSEPORT, but attaching a program to a socket before that does, too
// (net/core/sock_reuseport.c, reuseport_attach_prog). The program, which leaves the choice to the hash,
// is detached at once. From then on the socket can't join other sockets at its address
// (inet_csk_bind_conflict); others can only join it.
func makeKernelGroup(fd int) error {
	const outOfRange = 1<<32 - 1
	program := []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K, K: outOfRange}}
	if err := attach(fd, unix.SO_ATTACH_REUSEPORT_CBPF, program); err != nil {
		return err
	}
	// Before Linux 5.3 the program can't be detached, and stays.
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DETACH_REUSEPORT_BPF, 0)
	return nil
}

// listenBeside makes the first shard listen where others may: the service's own sockets at
// addresses that overlap, or those that share it. It looks again afterwards, to find those
// that have come meanwhile and may not share it.
func (g *Group) listenBeside() error {
	if err := unix.Listen(g.shards[0], g.backlog); err != nil {
		return err
	}
	g.listening = 1
	if g.addr.unix() {
		if g.Lost() {
			return fmt.Errorf("%w: another process has put its own socket there meanwhile", unix.EADDRINUSE)
		}
		return nil
	}
	if taken := (*TakenError)(nil); errors.As(g.Look(nil), &taken) {
		return taken
	}
	return nil
}

// overlapsOwn reports whether the service listens at another address, which overlaps the group's.
func (g *Group) overlapsOwn() bool {
	found := false
	g.eachOwn(func(o *Group) {
		if o != g && o.listening > 0 && o.addr.network == g.addr.network && o.addr.tcp.Port() == g.addr.tcp.Port() {
			found = found || g.addr.covers(o.addr.tcp.Addr().WithZone(""))
		}
	})
	return found
}
