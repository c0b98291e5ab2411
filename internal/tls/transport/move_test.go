package transport_test

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"reuseportd/internal/eventloop"
	"reuseportd/internal/tls/certs"
	"reuseportd/internal/tls/transport"
)

// move takes the only connection of one server to another, as two processes do. The error is why the other one refuses it:
// then it stays.
func (s *server) move(to *server) (kind uint16, err error) {
	s.t.Helper()
	var all []eventloop.Departure
	s.do(func() { s.DrainTo(func() {}) })
	s.until("it can move", func() bool { all = s.Depart(1); return len(all) == 1 })
	p := all[0].Parcel
	for _, b := range []*[]byte{&p.In, &p.Out, &p.Tail, &p.Keys, &p.Cipher, &p.Opened, &p.Sealed, &p.State} {
		*b = bytes.Clone(*b)
	}
	p.FD, err = unix.FcntlInt(uintptr(p.FD), unix.F_DUPFD_CLOEXEC, 0)
	must(s.t, err)
	var c *eventloop.Conn
	to.do(func() { c, err = to.Arrive(to.service, &p) })
	if err != nil {
		_ = unix.Close(p.FD)
		s.do(func() { s.Return(&all[0], false) })
		return p.Transport, err
	}
	s.do(func() { s.Departed(&all[0]) })
	to.do(func() { to.Begin(c) })
	return p.Transport, nil
}

// TestMove: a session goes on in another process, there and back, idle and with output that is sealed and half written.
func TestMove(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			cert := ec(t)
			all := make([]*server, 4)
			for i := range all {
				all[i] = serve(t, config(cert), 1)
			}
			c := all[0].client(trusting(version))
			says(t, c, "at home")
			big := strings.Repeat("0123456789abcdef", 1<<19)
			sent := make(chan struct{})
			for i, s := range all[1:] {
				if i > 0 { // its output is stuck in the middle of a record
					go func() {
						_, _ = io.WriteString(c, big)
						close(sent)
					}()
					all[i].until("output waits", func() bool { return all[i].last != nil && all[i].last.HasOutput() })
				}
				if kind, err := all[i].move(s); kind != transport.Kind || err != nil {
					t.Fatalf("move %d: kind %d, error %v", i, kind, err)
				}
				if i > 0 {
					got := make([]byte, len(big))
					if _, err := io.ReadFull(c, got); err != nil || string(got) != big {
						t.Fatalf("move %d: error %v, or other bytes", i, err)
					}
					<-sent
					sent = make(chan struct{})
				}
				says(t, c, fmt.Sprint("move ", i))
			}
			must(t, c.CloseWrite())
			if rest, err := io.ReadAll(c); len(rest) > 0 || err != nil {
				t.Errorf("the end: %q, %v", rest, err)
			}
		})
	}
}

// TestMoveToStricter: a session that was made before client certificates were asked for, or with one that isn't trusted any
// more, does not get past that by moving.
func TestMoveToStricter(t *testing.T) {
	cert, mine, other := ec(t), ec(t), ec(t)
	trust := func(all ...*tls.Certificate) *certs.Authorities {
		var pem []byte
		for _, c := range all {
			pem = append(pem, pemOf(c)...)
		}
		a, err := certs.ParseAuthorities(pem)
		must(t, err)
		return a
	}
	settings := func(a *certs.Authorities, required bool) transport.Settings {
		conf := config(cert)
		if a != nil {
			conf.ClientCAs, conf.ClientAuth = a.Pool, tls.VerifyClientCertIfGiven
		}
		if required {
			conf.ClientAuth = tls.RequireAndVerifyClientCert
		}
		return transport.Settings{Config: conf, Certs: certs.NewSet([]*tls.Certificate{cert}), Clients: a, Required: required}
	}
	nobody := settings(nil, false)
	for name, tt := range map[string]struct {
		from, to transport.Settings
		with     *tls.Certificate
		want     string // "": it moves
	}{
		"nobody is asked":                          {nobody, nobody, mine, ""},
		"a certificate is required from now on":    {nobody, settings(trust(mine), true), mine, "must have a certificate"},
		"one is asked for from now on":             {nobody, settings(trust(mine), false), mine, ""},
		"none was given, and it is required":       {settings(trust(mine), false), settings(trust(mine), true), nil, "must have a certificate"},
		"the same is trusted":                      {settings(trust(mine), true), settings(trust(mine), true), mine, ""},
		"more are trusted":                         {settings(trust(mine), true), settings(trust(other, mine), true), mine, ""},
		"another is trusted":                       {settings(trust(mine), true), settings(trust(other), true), mine, "not trusted here"},
		"another is trusted, and none is required": {settings(trust(mine), true), settings(trust(other), false), mine, "not trusted here"},
		"nobody is asked any more":                 {settings(trust(mine), true), nobody, mine, ""},
	} {
		t.Run(name, func(t *testing.T) {
			from, to := serve(t, nil, 1), serve(t, nil, 1)
			from.tls.Use(tt.from)
			to.tls.Use(tt.to)
			conf := trusting(0)
			if tt.with != nil {
				conf.Certificates = []tls.Certificate{*tt.with}
			}
			c := from.client(conf)
			says(t, c, "here")
			kind, err := from.move(to)
			switch {
			case (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want):
				t.Errorf("it is told %v, want %q", err, tt.want)
			case kind != transport.Kind:
				t.Errorf("the kind is %d", kind)
			}
			says(t, c, "there, or here still")
		})
	}
}

// TestThawHostile: another worker may send anything.
func TestThawHostile(t *testing.T) {
	from, to := serve(t, config(ec(t)), 1), serve(t, config(ec(t)), 1)
	c := from.client(trusting(0))
	says(t, c, "here")
	var good []byte
	var p eventloop.Departure
	from.do(func() { from.DrainTo(func() {}) })
	from.until("it can move", func() bool {
		all := from.Depart(1)
		if len(all) == 1 {
			p = all[0]
			good = bytes.Clone(p.Keys)
		}
		return len(all) == 1
	})
	for name, tt := range map[string]struct {
		kind uint16
		keys []byte
	}{
		"nothing":                      {transport.Kind, nil},
		"another kind":                 {99, good},
		"cut":                          {transport.Kind, good[:len(good)-1]},
		"more":                         {transport.Kind, append(bytes.Clone(good), 0)},
		"the other end":                {transport.KindClient, good},
		"half an authority":            {transport.Kind, append(bytes.Clone(good[:len(good)-1]), 1, 'a')},
		"a name of more than 255":      {transport.Kind, named(good, "a.example", strings.Repeat("a", 256))},
		"a name as long as a megabyte": {transport.Kind, named(good, "a.example", strings.Repeat("a", 1<<20))},
	} {
		q := p.Parcel
		q.Transport, q.Keys, q.FD = tt.kind, tt.keys, 900
		to.do(func() {
			if _, err := to.Arrive(to.service, &q); err == nil {
				t.Errorf("%s: taken", name)
			}
		})
	}
	from.do(func() { from.Return(&p, false) })
	says(t, c, "still here")
}

// named puts another name in the place of one.
func named(keys []byte, old, name string) []byte {
	n := len(name)
	size := []byte{byte(n)}
	if n > 127 {
		size = nil
		for ; n > 127; n >>= 7 {
			size = append(size, byte(n)|0x80)
		}
		size = append(size, byte(n))
	}
	was := append([]byte{byte(len(old))}, old...)
	return bytes.Replace(keys, was, append(size, name...), 1)
}
