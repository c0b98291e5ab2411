package worker

import (
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"time"

	"reuseportd/internal/config"
	"reuseportd/internal/eventloop"
	"reuseportd/internal/material"
	"reuseportd/internal/service/failure"
	"reuseportd/internal/tls/certs"
	"reuseportd/internal/tls/record"
	"reuseportd/internal/tls/transport"
)

// tlsTo is the TLS to one upstream's servers, which the loops share: for requests, and for bytes of any kind.
type tlsTo struct{ http, tcp *transport.Upstream }

// buildClients makes the TLS to the servers of each upstream that has it.
func (w *worker) buildClients() error {
	w.tlsTo = make(map[string]*tlsTo)
	for i := range w.conf.Upstreams {
		if up := &w.conf.Upstreams[i]; up.TLS != nil {
			conf, err := clientConfig(up, w.materials)
			if err != nil {
				return fmt.Errorf("upstream %s: %w", up.Name, err)
			}
			w.tlsTo[up.Name] = &tlsTo{new(transport.Upstream), new(transport.Upstream)}
			w.useClient(up, conf)
		}
	}
	return nil
}

// useClient makes new connections to an upstream's servers use a configuration.
func (w *worker) useClient(up *config.Upstream, conf *tls.Config) {
	to := w.tlsTo[up.Name]
	to.tcp.Use(conf)
	spoken := conf.Clone()
	spoken.NextProtos = []string{"http/1.1"}
	to.http.Use(spoken)
	check := conf
	if up.Check != nil && up.Check.Path != "" {
		check = spoken
	}
	w.upstreams.UseTLS(up.Name, check)
}

// clientConfig makes the configuration for handshakes with an upstream's servers.
func clientConfig(up *config.Upstream, set *material.Set) (*tls.Config, error) {
	t := up.TLS
	conf := &tls.Config{
		ServerName: t.ServerName, MinVersion: t.MinVersion, CipherSuites: record.Suites(), InsecureSkipVerify: !t.Verify,
	}
	if t.Verify {
		files := find(set, t.Authorities())
		conf.RootCAs = x509.NewCertPool()
		if len(files) != 1 || !conf.RootCAs.AppendCertsFromPEM(files[0]) {
			return nil, fmt.Errorf("the master has sent nothing of %s", t.Authorities().Paths[0])
		}
	}
	if t.Client != nil {
		files := find(set, t.Client.Material())
		if len(files) != 2 {
			return nil, fmt.Errorf("the master has sent nothing of %s", t.Client.Cert)
		}
		c, err := certs.Parse(files[0], files[1], time.Now())
		if c == nil { // the master judges whether it has expired
			return nil, err
		}
		conf.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return c, nil }
	}
	return conf, nil
}

// warmth returns the loop's set of connections whose ciphers are ready.
func (lp *loop) warmth() *transport.Warm {
	if lp.warm == nil {
		lp.warm = new(transport.Warm)
	}
	return lp.warm
}

// secure gives a service for connections to servers its TLS.
func (lp *loop) secure(s *eventloop.Service, o transport.DialOptions) {
	o.Warm = lp.warmth
	s.SetTransports(transport.NewDials(lp.Loop, o), 0) // connect_timeout bounds a handshake
}

// buildTLS makes the TLS configuration of each listener, which the loops share.
func (w *worker) buildTLS() error {
	w.tls = make(map[string]*transport.Listener)
	for i := range w.conf.Listeners {
		l := &w.conf.Listeners[i]
		if l.TLS == nil {
			continue
		}
		settings, err := tlsSettings(l, w.materials)
		if err != nil {
			return fmt.Errorf("listener %s: %w", l.Name, err)
		}
		w.tls[l.Key()] = new(transport.Listener)
		w.tls[l.Key()].Use(settings)
	}
	return nil
}

// renewTLS prepares to use the certificates in set; swap takes them into use.
func (w *worker) renewTLS(set *material.Set) (swap func(), err error) {
	var swaps []func()
	for i := range w.conf.Upstreams {
		up := &w.conf.Upstreams[i]
		if up.TLS == nil || !changed(w.materials, set, up.TLS) {
			continue
		}
		conf, err := clientConfig(up, set)
		if err != nil {
			return nil, fmt.Errorf("upstream %s: %w", up.Name, err)
		}
		swaps = append(swaps, func() { w.useClient(up, conf) })
	}
	for i := range w.conf.Listeners {
		l := &w.conf.Listeners[i]
		if l.TLS == nil {
			continue
		}
		settings, err := tlsSettings(l, set)
		if err != nil {
			return nil, fmt.Errorf("listener %s: %w", l.Name, err)
		}
		swaps = append(swaps, func() { w.tls[l.Key()].Use(settings) })
	}
	return func() {
		for _, swap := range swaps {
			swap()
		}
	}, nil
}

// changed reports whether the files of an upstream's TLS are others in another set.
func changed(old, set *material.Set, t *config.UpstreamTLS) bool {
	for _, m := range []config.Material{t.Authorities(), t.ClientMaterial()} {
		if material.Sum(find(old, m)) != material.Sum(find(set, m)) {
			return true
		}
	}
	return false
}

// find returns the contents of a material's files.
func find(set *material.Set, m config.Material) [][]byte {
	return set.Find(material.Want{Kind: material.Kind(m.Kind), Paths: m.Paths})
}

// tlsSettings makes the settings for handshakes at a listener.
func tlsSettings(l *config.Listener, set *material.Set) (s transport.Settings, err error) {
	t := l.TLS
	var all []*tls.Certificate
	for i := range t.Certificates {
		files := find(set, t.Certificates[i].Material())
		if len(files) != 2 {
			return s, fmt.Errorf("the master has sent nothing of %s", t.Certificates[i].Cert)
		}
		c, err := certs.Parse(files[0], files[1], time.Now())
		if c == nil { // the master judges whether it has expired
			return s, err
		}
		all = append(all, c)
	}
	s.Certs = certs.NewSet(all)
	s.Config = &tls.Config{
		GetCertificate: s.Certs.Get, MinVersion: t.MinVersion, CipherSuites: record.Suites(),
		SessionTicketsDisabled: !t.Tickets,
	}
	if l.HTTP != nil {
		s.Config.NextProtos = []string{"http/1.1"}
	}
	if t.Tickets {
		keys := find(set, config.Tickets())
		switch {
		case len(t.TicketKeys) > 0:
			keys = material.TicketKeysOf(find(set, t.OwnTickets()))
			if len(keys) != len(t.TicketKeys) {
				return s, fmt.Errorf("the master has sent nothing of %s", t.TicketKeys[0])
			}
		case !material.IsTickets(keys):
			return s, errors.New("the master has sent no keys of tickets")
		}
		if err := useTickets(s.Config, t, keys); err != nil {
			return s, err
		}
	}
	if a := t.ClientAuth; a != nil {
		files := find(set, a.Material())
		if len(files) != 1 {
			return s, fmt.Errorf("the master has sent nothing of %s", a.CA)
		}
		if s.Clients, err = certs.ParseAuthorities(files[0]); err != nil {
			return s, fmt.Errorf("%s: %w", a.CA, err)
		}
		s.Required = a.Require
		s.Config.ClientCAs, s.Config.ClientAuth = s.Clients.Pool, tls.VerifyClientCertIfGiven
		if a.Require {
			s.Config.ClientAuth = tls.RequireAndVerifyClientCert
		}
	}
	return s, nil
}

// useTickets sets the keys of a listener's tickets, which are made from those of the master. Only listeners with the same
// certificates and client_auth have the same: a resumed session shows no certificate, so somebody on the way could have
// one listener's client resume its session at another one.
func useTickets(conf *tls.Config, t *config.TLS, keys [][]byte) error {
	info := []string{"reuseportd tickets"}
	for _, c := range t.Certificates {
		info = append(info, c.Cert, c.Key)
	}
	if a := t.ClientAuth; a != nil {
		info = append(info, "", a.CA)
	}
	own := make([][32]byte, len(keys))
	defer clear(own)
	for i, k := range keys {
		key, err := hkdf.Expand(sha256.New, k, strings.Join(info, "\x00"), len(own[i]))
		if err != nil {
			return fmt.Errorf("make the keys of tickets: %w", err)
		}
		copy(own[i][:], key)
		clear(key)
	}
	conf.SetSessionTicketKeys(own)
	return nil
}

// seal makes a listener's service use TLS, if the listener does.
func (lp *loop) seal(s *eventloop.Service, l *config.Listener) {
	shared := lp.w.tls[l.Key()]
	if shared == nil {
		return
	}
	most := l.TLS.MaxHandshakes
	if most == 0 {
		most = autoHandshakes
	}
	teller, name := failure.New(lp.w.failed), l.Name
	s.SetTransports(transport.New(lp.Loop, transport.Options{
		Shared: shared, Warm: lp.warmth(), Most: share(most, len(lp.w.start.Slots)),
		Failed: func(c *eventloop.Conn, why error) {
			text := why.Error()
			if a := c.Remote(); a.IsValid() {
				text = "from " + a.String() + ": " + text
			}
			teller.Tell(lp.Monotonic(), failure.Failure{Listener: name, Reason: "TLS handshake", Text: text})
		},
	}), lp.Class(l.TLS.HandshakeTimeout))
}

// autoHandshakes is how many handshakes a worker has under way at the same time by default. Each holds
// some 24 KiB.
var autoHandshakes = 256 * max(1, runtime.NumCPU()/4)
