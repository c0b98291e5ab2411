package upstream

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"reuseportd/internal/config"
	"reuseportd/internal/eventloop"
)

// name is a configured server whose addresses have to be looked up.
type name struct {
	conf     *config.Server
	host     string
	port     uint16
	zone     string // of a link-local address; host is the address without it
	upstream string
	order    uint64 // place in the configuration
	// The fields below are guarded by pool.mu. state is shared by all workers, so that only one
	// reports a change; shared is false if it is private memory. If state has another id than
	// id, the entry has been reused.
	state   *entry
	id      uint64
	shared  bool
	targets []target
	since   int64 // when the lookup began that returned targets; 0: none has
	asked   bool  // looked up at least once; used by follow only
}

const (
	lookupTimeout = 10 * time.Second
	// retryLookup is when a name without an address is looked up again, unless resolve_every
	// is shorter.
	retryLookup = time.Second
	// maxTargets bounds the addresses of one name.
	maxTargets = 256
	// failedAnswer is the value of entry.answer after a failed lookup.
	failedAnswer = marked | 2
)

// nameAll finds the configured servers that aren't fixed addresses: names, and link-local
// addresses, whose interfaces may come and go.
func (p *pool) nameAll(now int64) {
	for i := range p.conf.Servers {
		conf := &p.conf.Servers[i]
		if conf.Network == "unix" {
			continue
		}
		host, port, err := net.SplitHostPort(conf.Address)
		number, perr := strconv.ParseUint(port, 10, 16)
		if err != nil || perr != nil {
			continue
		}
		zone := ""
		if !conf.Named {
			if host, zone, _ = strings.Cut(host, "%"); zone == "" {
				continue
			}
		}
		n := &name{conf: conf, host: host, port: uint16(number), zone: zone, upstream: p.conf.Name, order: uint64(i) << 16}
		p.names[i] = n
		p.hold(n, now)
		p.set.unanswered.Add(1)
	}
}

// follow looks a name up again and again.
func (p *pool) follow(ctx context.Context, n *name) {
	for ctx.Err() == nil {
		asked := monotonic()
		targets, err := n.lookup(ctx, p.set.resolver)
		if ctx.Err() != nil {
			return
		}
		known := p.answer(n, asked, targets, err)
		if !n.asked {
			n.asked = true
			if p.set.unanswered.Add(-1) == 0 {
				close(p.set.resolved)
			}
		}
		wait := p.conf.ResolveEvery
		if !known {
			wait = min(wait, retryLookup)
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
}

// lookup returns the name's current addresses in order. Without an error there is at
// least one.
func (n *name) lookup(ctx context.Context, r *net.Resolver) ([]target, error) {
	if n.zone != "" {
		t, err := withZone(netip.MustParseAddr(n.host).WithZone(n.zone), n.port)
		return []target{t}, err
	}
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	ips, err := r.LookupNetIP(ctx, "ip", n.host)
	if err != nil {
		return nil, lookupError(err)
	}
	for i := range ips {
		ips[i] = ips[i].Unmap()
	}
	slices.SortFunc(ips, netip.Addr.Compare)
	var all []target
	for _, ip := range slices.Compact(ips) {
		if t, err := withZone(ip, n.port); err == nil && len(all) < maxTargets {
			all = append(all, t)
		}
	}
	if len(all) == 0 {
		return nil, errors.New("it has no address")
	}
	return all, nil
}

// withZone returns the target for an address that may have a zone.
func withZone(ip netip.Addr, port uint16) (target, error) {
	shown := netip.AddrPortFrom(ip, port)
	if ip.Zone() == "" {
		return targetOf(shown), nil
	}
	t := target{name: shown.String(), dial: shown.String()}
	if _, err := strconv.ParseUint(ip.Zone(), 10, 32); err != nil {
		ifi, err := net.InterfaceByName(ip.Zone())
		if err != nil {
			return t, fmt.Errorf("interface %s: %w", ip.Zone(), err)
		}
		ip = ip.WithZone(strconv.Itoa(ifi.Index))
	}
	t.address = eventloop.AddressOf(netip.AddrPortFrom(ip, port))
	return t, nil
}

// lookupError returns an error without the name server and socket, which differ each time.
func lookupError(err error) error {
	var dns *net.DNSError
	if !errors.As(err, &dns) {
		return err
	}
	switch {
	case dns.IsNotFound:
		return errors.New("no such name, or no address of it")
	case dns.IsTimeout:
		return errors.New("no answer in time")
	}
	return errors.New(dns.Err)
}

// answer takes the result of a lookup, and reports whether the name has an address. If the
// lookup failed, or another worker's was later, the last answer of any worker stays in use.
func (p *pool) answer(n *name, asked int64, targets []target, err error) bool {
	now := monotonic()
	p.mu.Lock()
	defer p.mu.Unlock()
	before := n.targets
	if p.keepName(n, now); err == nil && asked > n.since {
		n.targets, n.since = targets, asked
	}
	if !slices.EqualFunc(before, n.targets, target.same) {
		p.rebuild(now)
		p.set.wake()
	}
	if err != nil {
		p.state.counters.dnsFailures.Add(1)
		if n.shared && n.state.answer.Load()&markBits != marked {
			n.since = asked // an older release looked it up last: this is all that is known
			p.recordLast(n)
		}
		// If another worker has addresses, the name has some.
		n.tell(p, failedAnswer, fmt.Sprintf("its address can't be looked up: %v%s", err, goesOn(len(n.targets))))
		return len(n.targets) > 0
	}
	n.state.resolved.Store(1)
	if n.since != asked {
		return len(n.targets) > 0
	}
	p.recordLast(n)
	var shown []string
	for _, t := range targets {
		shown = append(shown, t.name)
	}
	text := strings.Join(shown, ", ")
	n.tell(p, answerOf(text), "its address is "+text)
	return true
}

// answerOf returns the value of entry.answer after a lookup that returned these
// addresses.
func answerOf(text string) uint64 { return KeyOf([]byte(text))&^markBits | marked | 4 }

func goesOn(had int) string {
	if had == 0 {
		return ""
	}
	return "; the one of before goes on"
}

// tell reports an answer that differs from the last one. The first is reported only if it
// is a failure.
func (n *name) tell(p *pool, answer uint64, why string) {
	before := n.state.answer.Swap(answer)
	told := before&^markBits | marked // as if this release had written it
	if told == answer || before == 0 && answer != failedAnswer {
		return
	}
	e := Event{p.conf.Name, n.conf.Address, Up, Up, why}
	switch {
	case answer == failedAnswer && len(n.targets) == 0:
		e.To = Unresolved
	case told == failedAnswer:
		e.From = Unresolved
	}
	p.set.event(e)
}
