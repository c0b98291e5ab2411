package config

import (
	"crypto/tls"
	"net/netip"
	"strings"

	"reuseportd/internal/config/yaml"
)

// UpstreamTLS says how the connections to the servers of an upstream are encrypted.
type UpstreamTLS struct {
	// ServerName is what a server is asked for and its certificate must be valid for; "" is its own name or
	// address.
	ServerName string
	// Verify checks that a server's certificate is signed by one of CA's, a file in PEM, and valid for the name.
	Verify     bool
	CA         string       // "" is the system's
	Client     *Certificate // what servers that ask for a certificate get; nil is none
	MinVersion uint16       // of crypto/tls

	Pos Position
}

var upstreamTLSObject = object[UpstreamTLS]{at: "upstreams[].tls", what: "an upstream's tls", fields: []field[UpstreamTLS]{
	{"server_name", readServerName},
	{"ca", pathInto(func(t *UpstreamTLS) *string { return &t.CA })},
	{"cert", pathInto(func(t *UpstreamTLS) *string { return &t.client().Cert })},
	{"key", pathInto(func(t *UpstreamTLS) *string { return &t.client().Key })},
	{"verify", boolInto(func(t *UpstreamTLS) *bool { return &t.Verify })},
	{"min_version", func(d *decoder, n *yaml.Node, t *UpstreamTLS) { readVersion(d, n, &t.MinVersion) }},
}}

// client returns the certificate, which it makes if there is none.
func (t *UpstreamTLS) client() *Certificate {
	if t.Client == nil {
		t.Client = new(Certificate)
	}
	return t.Client
}

// upstreamTLS reads how servers are spoken to; it never returns nil.
func (d *decoder) upstreamTLS(n *yaml.Node) *UpstreamTLS {
	t := &UpstreamTLS{Verify: true, MinVersion: tls.VersionTLS12, Pos: n.Pos}
	if n.Kind == yaml.Null {
		return t
	}
	g := upstreamTLSObject.read(d, n, t)
	if g == nil {
		return t
	}
	if t.Client != nil {
		t.Client.Pos = g.pos("cert", g.pos("key", n.Pos))
		for _, key := range []string{"cert", "key"} {
			if !g.has(key) {
				d.missing(g, n.Pos, "a certificate is cert: FILE and key: FILE, which may be the same file", "tls with a client's certificate that has no "+key)
			}
		}
	}
	if !t.Verify {
		if g.has("ca") {
			d.rep.Add(g.entries["ca"].Pos, "remove it, or remove verify: false", "ca is for checking servers' certificates, and verify is false")
		}
		d.rep.Warn(g.entries["verify"].Pos, "name the signer of their certificates with ca:",
			"servers' certificates are not verified: whoever gets between can read and change everything")
	}
	if t.CA != "" {
		t.Pos = g.pos("ca", n.Pos)
	}
	return t
}

// readServerName reads a host's name or an address.
func readServerName(d *decoder, n *yaml.Node, t *UpstreamTLS) {
	s, ok := d.text(n)
	if !ok {
		return
	}
	name := strings.ToLower(s)
	if _, err := netip.ParseAddr(name); err != nil && (len(name) > 253 || !isHostName(name)) {
		d.wrong(n, "write what the certificate of the servers is valid for, as in app.example.com", "a host name or an IP address")
		return
	}
	t.ServerName = name
}

// materials returns the files that it names.
func (t *UpstreamTLS) materials() (all []Material) {
	if t.Verify {
		all = append(all, t.Authorities())
	}
	if t.Client != nil {
		all = append(all, t.Client.Material())
	}
	return all
}

// ClientMaterial is what the client's certificate is to a worker, nothing if there is none.
func (t *UpstreamTLS) ClientMaterial() Material {
	if t.Client == nil {
		return Material{}
	}
	return t.Client.Material()
}

// SystemAuthorities stands for the file of the system's authorities, wherever that is.
const SystemAuthorities = "the system's certificate authorities"

// Authorities is what the file of those that sign servers' certificates is to a worker.
func (t *UpstreamTLS) Authorities() Material {
	path := t.CA
	if path == "" {
		path = SystemAuthorities
	}
	return Material{Kind: "authorities", Paths: []string{path}, Pos: t.Pos}
}
