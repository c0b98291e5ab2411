package http

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"reuseportd/internal/config"
	"reuseportd/internal/service/http/accesslog"
	"reuseportd/internal/service/http/h1"
	"reuseportd/internal/service/http/message"
)

// Options are what a site needs beside its configuration.
type Options struct {
	// AccessLog is the descriptor to write to, -1 if there is no access log.
	// It is only lent: whoever gave it closes it.
	AccessLog int
	// LogDropped hears of lines of the access log that were dropped, once the file takes lines again; nil
	// if nobody wants to. It must not wait.
	LogDropped func(lines uint64)
	// Listener is its name, for what is told of upstreams that fail.
	Listener string
}

// Site is one listener's service, compiled. It is shared by the loops of a
// worker and never changes.
type Site struct {
	conf  *config.HTTP
	limit h1.Limits
	hosts map[string][]route // by lower-case host, longest path first
	rest  []route            // those for any host
	log   *accesslog.Log     // nil if there is none

	listener string
	proxies  []*proxy // of all routes, as they are numbered
	responds int      // how many there are
}

// route answers the requests below a path.
type route struct {
	path    string
	respond *respond // exactly one of these
	files   *root
	proxy   *proxy
}

// respond is a fixed answer, as it is sent.
type respond struct {
	number int // of all in its site
	status int
	head   []byte // status line to Content-Length, without Date and Connection
	body   []byte
}

// NewSite compiles a configuration and opens the roots that it names.
func NewSite(c *config.HTTP, o Options) (*Site, error) {
	s := &Site{
		conf:  c,
		limit: h1.Limits{Line: c.MaxRequestLine, Head: c.MaxHeader, Body: c.MaxBody},
		hosts: make(map[string][]route), listener: o.Listener,
	}
	for i := range c.Routes {
		r, err := s.newRoute(&c.Routes[i])
		if err != nil {
			s.Close()
			return nil, err
		}
		if host := c.Routes[i].Host; host != "" {
			s.hosts[host] = append(s.hosts[host], r)
		} else {
			s.rest = append(s.rest, r)
		}
	}
	longest := func(a, b route) int { return cmp.Compare(len(b.path), len(a.path)) }
	slices.SortStableFunc(s.rest, longest)
	for _, rs := range s.hosts {
		slices.SortStableFunc(rs, longest)
	}
	if c.AccessLog != nil && o.AccessLog >= 0 {
		s.log = accesslog.New(o.AccessLog, c.AccessLog.Format, o.LogDropped)
	}
	return s, nil
}

func (s *Site) newRoute(c *config.Route) (route, error) {
	r := route{path: c.Path}
	switch {
	case c.Respond != nil:
		r.respond = newRespond(c.Respond)
		r.respond.number = s.responds
		s.responds++
	case c.Files != nil:
		root, err := openRoot(c.Files)
		if err != nil {
			return r, fmt.Errorf("route %s%s: %w", c.Host, c.Path, err)
		}
		r.files = root
	case c.Proxy != nil:
		r.proxy = newProxy(c.Proxy, c.Path, s.conf.TrustedProxies)
		if s.conf.UnderscoresInHeaders {
			r.proxy.request.underscored = underscoresKept
		}
		r.proxy.number = len(s.proxies)
		s.proxies = append(s.proxies, r.proxy)
	default:
		return r, errors.New("route " + c.Host + c.Path + " does nothing")
	}
	return r, nil
}

const serverField = "Server: reuseportd\r\n"

func newRespond(c *config.Respond) *respond {
	var b strings.Builder
	b.WriteString("HTTP/1.1 " + strconv.Itoa(c.Status) + " " + message.Reason(c.Status) + "\r\n")
	has := func(name string) bool {
		return slices.ContainsFunc(c.Headers, func(f config.Header) bool { return strings.EqualFold(f.Name, name) })
	}
	if !has("Server") {
		b.WriteString(serverField)
	}
	for _, f := range c.Headers {
		b.WriteString(f.Name + ": " + f.Value + "\r\n")
	}
	if !has("Content-Type") && len(c.Body) > 0 {
		b.WriteString("Content-Type: text/plain; charset=utf-8\r\n")
	}
	if c.Status != 204 && c.Status != 304 {
		b.WriteString("Content-Length: " + strconv.Itoa(len(c.Body)) + "\r\n")
	}
	return &respond{status: c.Status, head: []byte(b.String()), body: c.Body}
}

// Close closes the roots and writes what waits of the access log.
func (s *Site) Close() {
	for _, r := range s.rest {
		r.close()
	}
	for _, rs := range s.hosts {
		for _, r := range rs {
			r.close()
		}
	}
	if s.log != nil {
		s.log.Close()
	}
}

func (r *route) close() {
	if r.files != nil {
		r.files.Close()
	}
}

// find returns the route of a request: of those for its host the one with the
// longest path, else of those for any host. It returns nil if there is none.
func (s *Site) find(r *message.Request) *route { return s.findPath(r.Host, r.Path) }

func (s *Site) findPath(host, path []byte) *route {
	if len(s.hosts) > 0 {
		if found := longestPrefix(s.hosts[string(host)], path); found != nil {
			return found
		}
	}
	return longestPrefix(s.rest, path)
}

func longestPrefix(routes []route, path []byte) *route {
	for i := range routes {
		p := routes[i].path
		if len(path) < len(p) || string(path[:len(p)]) != p {
			continue
		}
		if len(path) == len(p) || p[len(p)-1] == '/' || path[len(p)] == '/' {
			return &routes[i]
		}
	}
	return nil
}

// below returns what of a path is below the route's.
func (r *route) below(path []byte) []byte {
	path = path[len(r.path):]
	for len(path) > 0 && path[0] == '/' {
		path = path[1:]
	}
	return path
}
