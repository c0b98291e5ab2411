package worker

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"testing"
	"time"

	"reuseportd/internal/config"
	"reuseportd/internal/material"
)

// pair returns a chain and its key, in PEM.
func pair(t *testing.T) [][]byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"a.example"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return [][]byte{
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}),
	}
}

// TestTicketsOfListeners: a ticket is for listeners with the same certificates and authorities, also behind a renewal of their
// files, and for no other: that one's certificate was never shown.
func TestTicketsOfListeners(t *testing.T) {
	listener := func(name string, ca string) *config.Listener {
		l := &config.Listener{TLS: &config.TLS{
			Certificates: []config.Certificate{{Cert: "/" + name + ".pem", Key: "/" + name + ".key"}}, MinVersion: tls.VersionTLS12, Tickets: true,
		}}
		if ca != "" {
			l.TLS.ClientAuth = &config.ClientAuth{CA: ca}
		}
		return l
	}
	keys := material.NewTickets(nil)
	settings := func(l *config.Listener) *tls.Config {
		t.Helper()
		set := &material.Set{}
		add := func(m config.Material, files [][]byte) {
			set.Items = append(set.Items, material.Item{Key: material.Want{Kind: material.Kind(m.Kind), Paths: m.Paths}.Key(), Files: files})
		}
		add(l.TLS.Certificates[0].Material(), pair(t))
		if a := l.TLS.ClientAuth; a != nil {
			add(a.Material(), pair(t)[:1])
		}
		add(config.Tickets(), keys)
		s, err := tlsSettings(l, set)
		if err != nil {
			t.Fatal(err)
		}
		return s.Config
	}
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		client := &tls.Config{InsecureSkipVerify: true, ServerName: "a.example", MaxVersion: version}
		for name, tt := range map[string]struct {
			to   *config.Listener
			want bool
		}{
			"the same":              {listener("a", ""), true},
			"another's certificate": {listener("b", ""), false},
			"clients' certificates": {listener("a", "/ca.pem"), false},
		} {
			client.ClientSessionCache = tls.NewLRUClientSessionCache(1)
			if resumed(t, settings(listener("a", "")), client) {
				t.Fatal("resumed is nothing")
			}
			if got := resumed(t, settings(tt.to), client); got != tt.want {
				t.Errorf("%s, %s: resumed is %v", name, tls.VersionName(version), got)
			}
		}
	}
}

// resumed makes a handshake, and reports whether it resumed a session.
func resumed(t *testing.T, server, client *tls.Config) bool {
	t.Helper()
	ln, err := tls.Listen("tcp", "127.0.0.1:0", server)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		if c, err := ln.Accept(); err == nil {
			if _, err := io.WriteString(c, "x"); err != nil {
				t.Error(err)
			}
			_ = c.Close()
		}
	}()
	c, err := tls.DialWithDialer(&net.Dialer{Deadline: time.Now().Add(time.Minute)}, "tcp", ln.Addr().String(), client)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil { // tickets of TLS 1.3 come in front of it
		t.Fatal(err)
	}
	return c.ConnectionState().DidResume
}
