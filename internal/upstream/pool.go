package upstream

import (
	"crypto/tls"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"reuseportd/internal/config"
	"reuseportd/internal/eventloop"
)

// pool is an upstream in a worker: its servers, for all loops.
type pool struct {
	set   *Set
	conf  *config.Upstream
	state *entry // of the upstream as a whole

	list atomic.Pointer[list]
	tls  atomic.Pointer[tls.Config] // nil if servers are spoken to in the clear

	mu    sync.Mutex // guards the fields below; loops don't take it
	names []*name    // a place for each server of the configuration, nil for addresses
	// servers are those on the list, and those that were on it lately, by name: a name may
	// alternate between addresses.
	servers map[string]*Server
	gone    map[string]int64 // since when
}

// list is the servers of an upstream at one time. It is never changed, only replaced.
type list struct {
	servers []*Server // first those that are not backups
	first   int       // how many are not backups
	byName  map[string]*Server
}

// target is one of the addresses of a configured server.
type target struct {
	name, dial string
	address    eventloop.Address
}

func (t target) same(other target) bool { return t.name == other.name && t.address == other.address }

func targetOf(a netip.AddrPort) target {
	return target{a.String(), a.String(), eventloop.AddressOf(a)}
}

// targets returns the current addresses of the configured server i.
func (p *pool) targets(i int) []target {
	conf := &p.conf.Servers[i]
	if n := p.names[i]; n != nil {
		return n.targets
	}
	if conf.Network == "unix" {
		a, err := eventloop.UnixAddress(conf.Address)
		if err != nil {
			return nil // can't happen: the configuration has checked the address
		}
		return []target{{"unix:" + conf.Address, conf.Address, a}}
	}
	a, err := netip.ParseAddrPort(conf.Address)
	if err != nil {
		return nil
	}
	return []target{targetOf(a)}
}

// rebuild makes a new list. If two configured servers have the same address, the first
// counts.
func (p *pool) rebuild(now int64) {
	l := &list{byName: make(map[string]*Server)}
	var backups []*Server
	for i := range p.conf.Servers {
		conf := &p.conf.Servers[i]
		for j, t := range p.targets(i) {
			if l.byName[t.name] != nil {
				continue
			}
			s := p.server(conf, &t, uint64(i)<<16|uint64(j), now)
			l.byName[t.name] = s
			if conf.Backup {
				backups = append(backups, s)
			} else {
				l.servers = append(l.servers, s)
			}
		}
	}
	l.first = len(l.servers)
	l.servers = append(l.servers, backups...)
	p.forget(l, now)
	p.list.Store(l)
}

// server returns the server for a target, the existing one if there is one.
func (p *pool) server(conf *config.Server, t *target, order uint64, now int64) *Server {
	s := p.servers[t.name]
	if s == nil || s.Conf != conf || s.state.id.Load() != s.id {
		s = &Server{
			Conf: conf, name: t.name, address: t.address, dial: t.dial,
			hash: KeyOf([]byte(t.name)), pool: p,
		}
		p.attach(s, now)
		p.servers[t.name] = s
	}
	from := ""
	if conf.Named {
		from = conf.Address
	}
	s.describe(order, from)
	s.touch(now)
	return s
}

// attach gives a server its entry on the board, or private memory.
func (p *pool) attach(s *Server, now int64) {
	k := key{ofServer, p.conf.Name, s.name}
	if i := p.set.claim(&k, now); i >= 0 {
		s.state, s.id = &p.set.board.entries[i], k.id()
		s.usage = usage{board: p.set.board, index: i}
		return
	}
	s.private()
}

// kept is how long a server that is on no list is remembered, in nanoseconds.
const kept = int64(10 * time.Minute)

// forget numbers the servers of a new list, and forgets those that have been on no list
// for long.
func (p *pool) forget(l *list, now int64) {
	for name := range p.servers {
		switch since, was := p.gone[name]; {
		case l.byName[name] != nil:
			delete(p.gone, name)
		case !was:
			p.gone[name] = now
		case now-since > kept:
			delete(p.gone, name)
			delete(p.servers, name)
		}
	}
	taken := make(map[int32]bool)
	for _, s := range p.servers {
		taken[s.number] = true
	}
	next := int32(1)
	for _, s := range l.servers {
		if s.number > 0 {
			continue
		}
		for taken[next] {
			next++
		}
		s.number, taken[next] = next, true
	}
}

// lodge gives a server that is on no list the entry that other workers have for it, or
// private memory. It doesn't wait.
func (p *pool) lodge(s *Server) {
	b, k := p.set.board, key{ofServer, p.conf.Name, s.name}
	if b == nil {
		s.private()
		return
	}
	i := b.find(&k)
	if i < 0 {
		s.private()
		return
	}
	s.state, s.id = &b.entries[i], k.id()
	s.usage = usage{board: b, index: i}
}
