package handshake

import (
	"bytes"
	"crypto/tls"
	"encoding/hex"
	"errors"

	"reuseportd/internal/tls/record"
)

// secrets are what crypto/tls writes to its key log, in the format of NSS: a label, the client's random and a secret, in
// hex. Write is called under a lock of the whole process, so it only copies.
type secrets struct {
	client, server       [48]byte // traffic secrets of TLS 1.3
	shaking              [48]byte // the client's for its part of the handshake
	hasShaking           bool
	size                 int      // of all three
	master               [48]byte // of TLS 1.2
	hasMaster            bool
	resumed              [48]byte // the master secret from a ticket
	hasResumed           bool
	hasClient, hasServer bool
}

// Write implements io.Writer.
func (s *secrets) Write(line []byte) (int, error) {
	label, rest, _ := bytes.Cut(line, []byte(" "))
	_, secret, _ := bytes.Cut(bytes.TrimSuffix(rest, []byte("\n")), []byte(" "))
	if len(secret) > 96 {
		return len(line), nil
	}
	switch string(label) {
	case "CLIENT_HANDSHAKE_TRAFFIC_SECRET":
		s.size, _ = hex.Decode(s.shaking[:], secret)
		s.hasShaking = true
	case "CLIENT_TRAFFIC_SECRET_0":
		s.size, _ = hex.Decode(s.client[:], secret)
		s.hasClient = true
	case "SERVER_TRAFFIC_SECRET_0":
		s.size, _ = hex.Decode(s.server[:], secret)
		s.hasServer = true
	case "CLIENT_RANDOM":
		_, _ = hex.Decode(s.master[:], secret)
		s.hasMaster = true
	}
	return len(line), nil
}

// extraMaster is the prefix of our entry in a ticket's Extra.
const extraMaster = "reuseportd:master:"

// put puts the master secret into a ticket: that of this handshake or, if it has none of its own, the one that was resumed.
// A ticket that was read and not resumed has left one as well.
func (s *secrets) put(ss *tls.SessionState) {
	for _, e := range ss.Extra {
		if bytes.HasPrefix(e, []byte(extraMaster)) {
			return
		}
	}
	switch {
	case s.hasMaster:
		ss.Extra = append(ss.Extra, append([]byte(extraMaster), s.master[:]...))
	case s.hasResumed:
		ss.Extra = append(ss.Extra, append([]byte(extraMaster), s.resumed[:]...))
	}
}

// resume takes the master secret out of one of our tickets.
func (s *secrets) resume(ss *tls.SessionState) {
	for _, e := range ss.Extra {
		if m, ok := bytes.CutPrefix(e, []byte(extraMaster)); ok && len(m) == len(s.resumed) {
			copy(s.resumed[:], m)
			s.hasResumed = true
		}
	}
}

func (s *secrets) wipe() { *s = secrets{} }

// random returns the random in the hello at the beginning of a side's records (RFC 5246 section 7.4.1), nil if it
// isn't there.
func random(records []byte) []byte {
	var msg []byte
	for len(records) > 5 && len(msg) < 4+2+32 {
		n := min(5+int(records[3])<<8+int(records[4]), len(records))
		msg = append(msg, records[5:n]...)
		records = records[n:]
	}
	if len(msg) < 4+2+32 {
		return nil
	}
	return msg[4+2 : 4+2+32]
}

// Result returns the result of a finished handshake: the record layer, with its own copy of the keys. All
// connections of a goroutine share a room.
func (s *Shake) Result(room *record.Room) (*record.Conn, tls.ConnectionState, error) {
	state := s.conn.ConnectionState()
	k := record.Keys{Version: state.Version, Suite: state.CipherSuite, Client: s.client}
	switch {
	case state.Version == tls.VersionTLS13 && s.secrets.hasClient && s.secrets.hasServer:
		k.In, k.Out = s.secrets.client[:s.secrets.size], s.secrets.server[:s.secrets.size]
		if s.client {
			k.In, k.Out = k.Out, k.In
		}
		c, err := record.New(k, room)
		if err == nil {
			c.SkipWritten(s.all)
		}
		return c, state, err
	case state.Version == tls.VersionTLS12:
		k.Master, k.InSeq, k.OutSeq = s.secrets.master[:], 1, 1 // each Finished was record 0
		if state.DidResume {
			if !s.secrets.hasResumed {
				return nil, state, errors.New("the ticket that was resumed has no secret of ours")
			}
			k.Master = s.secrets.resumed[:]
		} else if !s.secrets.hasMaster {
			break
		}
		k.ClientRandom, k.ServerRandom = random(s.first), random(s.all)
		if s.client {
			k.ClientRandom, k.ServerRandom = k.ServerRandom, k.ClientRandom
		}
		c, err := record.New(k, room)
		return c, state, err
	}
	return nil, state, errors.New("crypto/tls has told no secret")
}
