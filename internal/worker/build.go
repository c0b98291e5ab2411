package worker

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"reuseportd/internal/config"
	"reuseportd/internal/eventloop"
	"reuseportd/internal/failpoint"
	"reuseportd/internal/service/echo"
	"reuseportd/internal/service/http"
	"reuseportd/internal/service/tcp"
	"reuseportd/internal/stats"
	"reuseportd/internal/tls/transport"
	"reuseportd/internal/upstream"
	"reuseportd/internal/wire"
)

// loop is one event loop of the worker, with its services and leases. Once it runs,
// everything but w and slot belongs to the loop's goroutine.
type loop struct {
	*eventloop.Loop
	w        *worker
	slot     int
	giving   giving
	wards    []*ward
	services map[string]*eventloop.Service // by config.Listener.Key, or upstreamKey and name
	leases   map[lease]*eventloop.Listener
	warm     *transport.Warm // of all listeners with TLS; nil if there is none
}

// upstreamKey and an upstream's name are the key of its idle connections' service.
const upstreamKey = "upstream:"

// lease names a shard that a loop accepts from.
type lease struct {
	key   string
	index int
}

// build makes a loop for each slot and in each a service for each listener.
func (w *worker) build(slots []int, region *stats.Region) error {
	sites, err := w.buildSites()
	if err != nil {
		return err
	}
	if err := errors.Join(w.buildTLS(), w.buildClients()); err != nil {
		return err
	}
	for i, slot := range slots {
		if err := failpoint.Hit("epoll"); err != nil {
			return fmt.Errorf("epoll_create: %w", err)
		}
		el, err := eventloop.New(eventloop.Options{
			Counters:       region.Page(i),
			Load:           w.loadOf(slot),
			MaxConnections: share(w.conf.MaxConnections, len(slots)),
			MaxMessage:     w.maxMessage(),
			Budget:         w.budget,
			Crowded:        w.crowded,
			Memory:         &w.memory,
			Panicked:       w.panicked,
			Empty:          w.wake,
		})
		if err != nil {
			return fmt.Errorf("event loop for slot %d: %w", slot, err)
		}
		lp := &loop{
			Loop: el, w: w, slot: slot,
			services: make(map[string]*eventloop.Service),
			leases:   make(map[lease]*eventloop.Listener),
		}
		if err := lp.buildServices(sites, w.start.Page+i); err != nil {
			return err
		}
		w.loops = append(w.loops, lp)
	}
	return nil
}

// buildServices makes the services of a loop, whose page of the ledger is page.
func (lp *loop) buildServices(sites map[string]*http.Site, page int) error {
	w := lp.w
	choosers, pools := make(map[string]*upstream.Chooser), make(map[string]*http.Pool)
	for i := range w.conf.Upstreams {
		name := w.conf.Upstreams[i].Name
		chooser, err := w.upstreams.Chooser(name, page)
		if err != nil {
			return fmt.Errorf("upstream %s: %w", name, err)
		}
		pool := http.NewPool(lp.Loop, chooser, w.failed)
		choosers[name], pools[name] = chooser, pool
		lp.services[upstreamKey+name] = pool.Service()
		if w.conf.Upstreams[i].TLS != nil {
			lp.secure(pool.Service(), transport.DialOptions{Shared: w.tlsTo[name].http, Name: pool.ServerName, Failed: pool.Untrusted})
		}
	}
	for i := range w.conf.Listeners {
		l := &w.conf.Listeners[i]
		var s *eventloop.Service
		switch {
		case l.HTTP != nil:
			s = http.NewService(lp.Loop, sites[l.Key()], pools)
		case l.TCP != nil:
			s = tcp.NewService(lp.Loop, tcp.Options{
				Listener: l.Name, Conf: l.TCP, Choosers: choosers, Failed: w.failed,
				Secure: func(s *eventloop.Service, up *config.Upstream, first func(*eventloop.Conn, []byte) []byte) {
					lp.secure(s, transport.DialOptions{Shared: w.tlsTo[up.Name].tcp, Name: tcp.ServerName, First: first, Failed: tcp.Untrusted})
				},
			})
		default:
			s = lp.NewService(echo.New(lp.Loop, l.Echo.IdleTimeout), 0)
		}
		lp.seal(s, l)
		if up := s.Upstreams(); up != nil {
			up.TakeTransports(transport.NewDials(lp.Loop, transport.DialOptions{Warm: lp.warmth}))
		}
		lp.services[l.Key()] = s
	}
	return lp.bindClients(page)
}

// loadOf returns where a loop publishes its load, nil if connections aren't steered by
// load.
func (w *worker) loadOf(slot int) *eventloop.Load {
	if w.load == nil {
		return nil
	}
	return &w.load.Slot(slot).Load
}

// buildSites makes the site of each HTTP listener, which the worker's loops share.
func (w *worker) buildSites() (map[string]*http.Site, error) {
	sites := make(map[string]*http.Site)
	w.accessFDs = make(map[string]int)
	for i := range w.conf.Listeners {
		l := &w.conf.Listeners[i]
		if l.HTTP == nil {
			continue
		}
		fd, err := w.accessFD(l.HTTP.AccessLog)
		if err != nil {
			return nil, fmt.Errorf("listener %s: %w", l.Name, err)
		}
		site, err := http.NewSite(l.HTTP, http.Options{
			AccessLog: fd, Listener: l.Name, Materials: w.materials, LogDropped: func(lines uint64) {
				w.log.Warn().Str("listener", l.Name).Uint64("lines", lines).
					Msg("lines of an access log were dropped: what takes it had stopped, or was slower than the requests")
			},
		})
		if err != nil {
			return nil, fmt.Errorf("listener %s: %w", l.Name, err)
		}
		sites[l.Key()] = site
		w.sites = append(w.sites, site)
	}
	return sites, nil
}

// accessFD returns the descriptor that the master opened for an access log, one for each
// path, however many listeners write to it; -1 if there is no log.
func (w *worker) accessFD(a *config.AccessLog) (int, error) {
	if a == nil {
		return -1, nil
	}
	if a.File == "-" {
		return unix.Stdout, nil
	}
	name := wire.FileAccess + a.File
	if fd, ok := w.accessFDs[name]; ok {
		return fd, nil
	}
	fd := w.files.take(name)
	if fd < 0 {
		return -1, fmt.Errorf("access log %s: the master sent no file", a.File)
	}
	w.accessFDs[name] = fd
	return fd, nil
}

// maxMessage is the most input that any of the services keeps, in bytes.
func (w *worker) maxMessage() int {
	size := 64 << 10
	for i := range w.conf.Listeners {
		if h := w.conf.Listeners[i].HTTP; h != nil {
			size = max(size, h.MaxRequestLine+h.MaxHeader+16<<10)
		}
	}
	return size
}

// share divides a worker's bound among its loops. 0 is no bound, and stays that.
func share(total, loops int) int {
	if total == 0 {
		return 0
	}
	return max(1, (total+loops-1)/loops)
}
