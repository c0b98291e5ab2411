package transport

import (
	"reuseportd/internal/pack"
	"reuseportd/internal/tls/record"
)

// session is a connection that has its keys: what is the same at both ends.
type session struct {
	warm *Warm
	rec  *record.Conn // nil before the handshake is done
	info *Info        // likewise
}

// Info returns what is known about the session. It must not be changed.
func (s *session) Info() *Info { return s.info }

// Open implements eventloop.Transport.
func (s *session) Open(raw, to, in []byte) (out []byte, n, used int, err error) {
	s.warm.touch(s.rec)
	return s.rec.Open(raw, to, in)
}

// Seal implements eventloop.Transport.
func (s *session) Seal(raw, head, tail []byte) []byte {
	s.warm.touch(s.rec)
	return s.rec.Seal(raw, head, tail)
}

// End implements eventloop.Transport.
func (s *session) End(raw []byte) []byte {
	if s.rec == nil {
		return raw
	}
	s.warm.touch(s.rec)
	return s.rec.End(raw)
}

// freeze appends what another process goes on with.
func (s *session) freeze(b []byte) []byte {
	r := pack.Writing(s.rec.Freeze(b))
	known := *s.info
	form(&known, r)
	return r.Written()
}

// thaw makes a session of what freeze wrote, for a client's end or a server's. infos has what it knows.
func thaw(state []byte, warm *Warm, infos *infos, client bool) (s session, err error) {
	rec, rest, err := record.Thaw(state, &warm.room)
	if err != nil {
		return s, err
	}
	if rec.Client() != client {
		return s, errWrongEnd
	}
	known := Info{Version: rec.Version(), Suite: rec.Suite()}
	r := pack.Reading(rest)
	form(&known, r)
	if err := r.End(); err != nil {
		return s, err
	}
	if err := bounded(&known); err != nil {
		return s, err
	}
	return session{warm, rec, infos.one(known)}, nil
}

// wipe overwrites the keys.
func (s *session) wipe() {
	if s.rec != nil {
		s.rec.Wipe()
	}
}

// infos are those of an event loop's sessions, of which most are alike.
type infos map[Info]*Info

// maxInfos bounds those that are remembered.
const maxInfos = 1024

// one returns what is known of a session, as one of all that know the same.
func (all infos) one(i Info) *Info {
	if p := all[i]; p != nil {
		return p
	}
	if len(all) >= maxInfos {
		clear(all)
	}
	all[i] = &i
	return &i
}
