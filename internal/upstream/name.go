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

// name is a server of the configuration whose addresses have to be found out.
type name struct {
	conf *config.Server
	host string
	port uint16
	zone string // of a link-local address; host is the address without it
	// state is shared by all workers, so that one tells what has changed.
	state   *entry
	targets []target // guarded by pool.mu
	asked   bool     // at least once
}

const (
	lookupTimeout = 10 * time.Second
	// retryLookup is how soon a name that has no address is looked up again, if
	// resolve_every isn't sooner.
	retryLookup = time.Second
	// maxTargets bounds the servers that one name stands for.
	maxTargets = 256
	// failedAnswer is entry.answer when a lookup has failed.
	failedAnswer = 2
)

// nameAll finds those servers of the configuration that are no fixed addresses: names, and
// link-local addresses, whose interfaces may come and go.
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
		n := &name{conf: conf, host: host, port: uint16(number), zone: zone}
		n.state, _ = p.set.entry(&key{ofName, p.conf.Name, conf.Address}, now)
		n.state.order.Store(uint64(i) << 16)
		if b := p.set.board; b != nil && conf.Named {
			n.targets = b.lately(p.conf.Name, conf.Address, now)
		}
		p.names[i] = n
		p.set.unanswered.Add(1)
	}
}

// lately returns the addresses that other workers have for a name, or had: it may not be
// possible to look it up just when a worker starts.
func (b *Board) lately(upstream, name string, now int64) []target {
	var all []target
	for i := range b.known() {
		e := &b.entries[i]
		if id := e.id.Load(); id == 0 || e.kind.Load() != ofServer || now-e.touched.Load() > shown ||
			load(e.upstream[:]) != upstream || load(e.name[:]) != name {
			continue
		}
		if a, err := netip.ParseAddrPort(load(e.address[:])); err == nil && len(all) < maxTargets {
			if t, err := withZone(a.Addr(), a.Port()); err == nil {
				all = append(all, t)
			}
		}
	}
	slices.SortFunc(all, func(a, b target) int { return strings.Compare(a.name, b.name) })
	return all
}

// follow looks a name up again and again.
func (p *pool) follow(ctx context.Context, n *name) {
	for ctx.Err() == nil {
		targets, err := n.lookup(ctx, p.set.resolver)
		if ctx.Err() != nil {
			return
		}
		p.answer(n, targets, err)
		if !n.asked {
			n.asked = true
			if p.set.unanswered.Add(-1) == 0 {
				close(p.set.resolved)
			}
		}
		wait := p.conf.ResolveEvery
		if len(n.targets) == 0 {
			wait = min(wait, retryLookup)
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
}

// lookup returns what the name stands for now, in order; never nothing and no error.
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

// withZone is the target of an address that may have an interface.
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

// lookupError leaves out which server was asked, over which socket: it is another one each time.
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

// answer takes what a lookup gave. When it failed, what it gave before goes on.
func (p *pool) answer(n *name, targets []target, err error) {
	now := monotonic()
	p.mu.Lock()
	defer p.mu.Unlock()
	had := len(n.targets)
	if err != nil {
		p.state.counters.dnsFailures.Add(1)
		// Where another worker has addresses, the name has some.
		n.tell(p, failedAnswer, fmt.Sprintf("its address can't be looked up: %v%s", err, goesOn(had)))
		return
	}
	n.state.resolved.Store(1)
	same := slices.EqualFunc(n.targets, targets, func(a, b target) bool { return a.name == b.name && a.address == b.address })
	if !same {
		n.targets = targets
		p.rebuild(now)
		select {
		case p.set.changed <- struct{}{}:
		default:
		}
	}
	var shown []string
	for _, t := range targets {
		shown = append(shown, t.name)
	}
	text := strings.Join(shown, ", ")
	n.tell(p, KeyOf([]byte(text))|4, "its address is "+text)
}

func goesOn(had int) string {
	if had == 0 {
		return ""
	}
	return "; the one of before goes on"
}

// tell tells of an answer if it is another one than the last. The first is told of
// only if it is a failure.
func (n *name) tell(p *pool, answer uint64, why string) {
	before := n.state.answer.Swap(answer)
	if before == answer || before == 0 && answer != failedAnswer {
		return
	}
	e := Event{p.conf.Name, n.conf.Address, Up, Up, why}
	switch {
	case answer == failedAnswer && len(n.targets) == 0:
		e.To = Unresolved
	case before == failedAnswer:
		e.From = Unresolved
	}
	p.set.event(e)
}
