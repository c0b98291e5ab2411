package handshake

import (
	"crypto/tls"
	"sync"
)

// maxSessions bounds the sessions that are kept of one upstream, in a worker.
const maxSessions = 64

// Sessions are those that clients may resume, by the names of servers. They are safe for concurrent use.
type Sessions struct {
	mu    sync.Mutex
	named map[string]session
	order []string // of names, the oldest first
}

// session is what a client resumes by.
type session struct {
	state  *tls.ClientSessionState
	master [48]byte // of TLS 1.2: a resumed handshake tells no secret
	has    bool
}

func (s *Sessions) get(name string) (session, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	found, ok := s.named[name]
	return found, ok
}

func (s *Sessions) put(name string, one session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.named == nil {
		s.named = make(map[string]session)
	}
	if _, known := s.named[name]; !known {
		if len(s.order) == maxSessions {
			delete(s.named, s.order[0])
			s.order = s.order[1:]
		}
		s.order = append(s.order, name)
	}
	s.named[name] = one
}

// cache is the sessions as crypto/tls asks one handshake for them. It implements tls.ClientSessionCache.
type cache struct {
	of  *Shake
	all *Sessions
}

func (c cache) Get(name string) (*tls.ClientSessionState, bool) {
	found, ok := c.all.get(name)
	if !ok || found.state == nil {
		return nil, false
	}
	if s := &c.of.secrets; found.has {
		s.resumed, s.hasResumed = found.master, true
	}
	return found.state, true
}

// Put keeps a session, with the master secret of this handshake. A nil state forgets it.
func (c cache) Put(name string, state *tls.ClientSessionState) {
	one := session{state: state}
	switch s := &c.of.secrets; {
	case state == nil:
	case s.hasMaster:
		one.master, one.has = s.master, true
	case s.hasResumed:
		one.master, one.has = s.resumed, true
	}
	c.all.put(name, one)
}

// Client begins a handshake as a client. base, whose ServerName must be set, is cloned. With sessions, which may be nil, it
// resumes one if it can, and is itself one to resume.
func Client(base *tls.Config, sessions *Sessions) *Shake {
	s := &Shake{client: true}
	conf := base.Clone()
	conf.KeyLogWriter = &s.secrets
	if sessions != nil {
		conf.ClientSessionCache = cache{s, sessions}
	}
	if get := base.GetClientCertificate; get != nil {
		conf.GetClientCertificate = func(r *tls.CertificateRequestInfo) (*tls.Certificate, error) {
			c, err := get(r)
			if err != nil || c == nil {
				return c, err
			}
			return s.beside(c), nil
		}
	}
	s.conn = tls.Client(end{s}, conf)
	s.begin()
	return s
}

// Tickets reports whether the server may yet send tickets: it sends them behind the handshake, in TLS 1.3. Then they are
// given to Ticket.
func (s *Shake) Tickets() bool { return s.client && s.open }

// Ticket has crypto/tls read one whole record that holds no data, the next one that the server has sent with the keys of
// the handshake's end. It returns false when crypto/tls takes no more. It must not be called before Result.
func (s *Shake) Ticket(rec []byte) bool {
	s.record = rec
	_, s.open = s.next()
	s.record, s.out = nil, s.out[:0] // what it says is ours to say
	return s.open
}
