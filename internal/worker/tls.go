package worker

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"runtime"
	"time"

	"reuseportd/internal/config"
	"reuseportd/internal/eventloop"
	"reuseportd/internal/material"
	"reuseportd/internal/service/failure"
	"reuseportd/internal/tls/certs"
	"reuseportd/internal/tls/record"
	"reuseportd/internal/tls/transport"
)

// buildTLS makes the TLS configuration of each listener, which the loops share.
func (w *worker) buildTLS() error {
	w.tls = make(map[string]*transport.Listener)
	for i := range w.conf.Listeners {
		l := &w.conf.Listeners[i]
		if l.TLS == nil {
			continue
		}
		conf, set, err := tlsConfig(l, w.materials)
		if err != nil {
			return fmt.Errorf("listener %s: %w", l.Name, err)
		}
		w.tls[l.Key()] = new(transport.Listener)
		w.tls[l.Key()].Use(conf, set)
	}
	return nil
}

// renewTLS prepares to use the certificates in set; swap takes them into use.
func (w *worker) renewTLS(set *material.Set) (swap func(), err error) {
	var swaps []func()
	for i := range w.conf.Listeners {
		l := &w.conf.Listeners[i]
		if l.TLS == nil {
			continue
		}
		conf, chosen, err := tlsConfig(l, set)
		if err != nil {
			return nil, fmt.Errorf("listener %s: %w", l.Name, err)
		}
		swaps = append(swaps, func() { w.tls[l.Key()].Use(conf, chosen) })
	}
	return func() {
		for _, swap := range swaps {
			swap()
		}
	}, nil
}

// find returns the contents of a material's files.
func find(set *material.Set, m config.Material) [][]byte {
	return set.Find(material.Want{Kind: material.Kind(m.Kind), Paths: m.Paths})
}

// tlsConfig makes the configuration for handshakes at a listener.
func tlsConfig(l *config.Listener, set *material.Set) (*tls.Config, *certs.Set, error) {
	t := l.TLS
	var all []*tls.Certificate
	for i := range t.Certificates {
		files := find(set, t.Certificates[i].Material())
		if len(files) != 2 {
			return nil, nil, fmt.Errorf("the master has sent nothing of %s", t.Certificates[i].Cert)
		}
		c, err := certs.Parse(files[0], files[1], time.Now())
		if c == nil { // the master judges whether it has expired
			return nil, nil, err
		}
		all = append(all, c)
	}
	chosen := certs.NewSet(all)
	conf := &tls.Config{
		GetCertificate: chosen.Get, MinVersion: t.MinVersion, CipherSuites: record.Suites(),
		SessionTicketsDisabled: !t.Tickets,
	}
	if l.HTTP != nil {
		conf.NextProtos = []string{"http/1.1"}
	}
	if t.Tickets {
		keys := find(set, config.Tickets())
		if !material.IsTickets(keys) {
			return nil, nil, errors.New("the master has sent no keys of tickets")
		}
		fixed := make([][32]byte, len(keys))
		for i, k := range keys {
			copy(fixed[i][:], k)
		}
		conf.SetSessionTicketKeys(fixed)
	}
	if a := t.ClientAuth; a != nil {
		files := find(set, a.Material())
		pool := x509.NewCertPool()
		if len(files) != 1 || !pool.AppendCertsFromPEM(files[0]) {
			return nil, nil, fmt.Errorf("the master has sent nothing of %s", a.CA)
		}
		conf.ClientCAs, conf.ClientAuth = pool, tls.VerifyClientCertIfGiven
		if a.Require {
			conf.ClientAuth = tls.RequireAndVerifyClientCert
		}
	}
	return conf, chosen, nil
}

// seal makes a listener's service use TLS, if the listener does.
func (lp *loop) seal(s *eventloop.Service, l *config.Listener) {
	shared := lp.w.tls[l.Key()]
	if shared == nil {
		return
	}
	if lp.warm == nil {
		lp.warm = new(transport.Warm)
	}
	most := l.TLS.MaxHandshakes
	if most == 0 {
		most = autoHandshakes
	}
	teller, name := failure.New(lp.w.failed), l.Name
	s.SetTransports(transport.New(lp.Loop, transport.Options{
		Shared: shared, Warm: lp.warm, Most: share(most, len(lp.w.start.Slots)),
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
