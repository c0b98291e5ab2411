package config

import (
	"crypto/tls"
	"time"

	"reuseportd/internal/config/yaml"
)

// TLS says how the connections of a listener are encrypted.
type TLS struct {
	// Certificates are chosen by the name that a client asks for; the first is for all others. There is one at least.
	Certificates []Certificate
	MinVersion   uint16      // of crypto/tls
	ClientAuth   *ClientAuth // nil asks no client for a certificate

	HandshakeTimeout time.Duration
	// MaxHandshakes bounds those at the same time in a worker; 0 is auto.
	MaxHandshakes int

	// Tickets lets clients resume sessions. Their key is changed every Rotate.
	Tickets bool
	Rotate  time.Duration
	// TicketKeys are files with keys in place of those that the master makes: the first one is for new tickets.
	TicketKeys []string
	ticketsPos Position

	Pos Position
}

// Certificate is two files in PEM: a chain, the server's own first, and its key.
type Certificate struct {
	Cert, Key string // absolute paths
	Pos       Position
}

// ClientAuth asks clients for a certificate that is signed by one of CA's, a file in PEM.
type ClientAuth struct {
	Require bool // else a client may have none
	CA      string
	Pos     Position
}

var tlsObject = object[TLS]{at: "listeners[].tls", what: "tls", fields: []field[TLS]{
	{"certificates", readCertificates},
	{"min_version", func(d *decoder, n *yaml.Node, t *TLS) { readVersion(d, n, &t.MinVersion) }},
	{"client_auth", func(d *decoder, n *yaml.Node, t *TLS) {
		t.ClientAuth = &ClientAuth{Require: true, Pos: n.Pos}
		if g := clientAuthObject.read(d, n, t.ClientAuth); g != nil && !g.has("ca") {
			d.missing(g, n.Pos, "add ca: and the file with the certificates that sign clients'", "client_auth without ca")
		}
	}},
	{"handshake_timeout", durationInto(time.Millisecond, func(t *TLS) *time.Duration { return &t.HandshakeTimeout })},
	{"max_handshakes", readMaxHandshakes},
	{"tickets", readTickets},
}}

var certificateObject = object[Certificate]{at: "listeners[].tls.certificates[]", what: "a certificate", fields: []field[Certificate]{
	{"cert", pathInto(func(c *Certificate) *string { return &c.Cert })},
	{"key", pathInto(func(c *Certificate) *string { return &c.Key })},
}}

var clientAuthObject = object[ClientAuth]{at: "listeners[].tls.client_auth", what: "client_auth", fields: []field[ClientAuth]{
	{"mode", func(d *decoder, n *yaml.Node, c *ClientAuth) {
		switch s, ok := d.text(n); {
		case !ok:
		case s == "require":
			c.Require = true
		case s == "request":
			c.Require = false
		default:
			d.wrong(n, "", "request or require")
		}
	}},
	{"ca", pathInto(func(c *ClientAuth) *string { return &c.CA })},
}}

var ticketsObject = object[TLS]{at: "listeners[].tls.tickets", what: "tickets", fields: []field[TLS]{
	{"rotate", durationInto(time.Minute, func(t *TLS) *time.Duration { return &t.Rotate })},
	{"keys", readTicketKeys},
}}

// tls reads how a listener is encrypted; it never returns nil.
func (d *decoder) tls(n *yaml.Node) *TLS {
	t := &TLS{MinVersion: tls.VersionTLS12, HandshakeTimeout: 10 * time.Second, Tickets: true, Rotate: 12 * time.Hour, Pos: n.Pos}
	if g := tlsObject.read(d, n, t); g != nil && !g.has("certificates") {
		d.missing(g, n.Pos, "add certificates: with - {cert: FILE, key: FILE}", "tls without certificates")
	}
	return t
}

func readCertificates(d *decoder, n *yaml.Node, t *TLS) {
	items, ok := d.items(n, "begin each with - cert:")
	if !ok {
		return
	}
	if len(items) == 0 {
		d.rep.Add(n.Pos, "add at least one - {cert: FILE, key: FILE}", "tls without certificates")
	}
	for _, item := range items {
		c := Certificate{Pos: item.Pos}
		g := certificateObject.read(d, item, &c)
		if g == nil {
			continue
		}
		for _, key := range []string{"cert", "key"} {
			if !g.has(key) {
				d.missing(g, item.Pos, "a certificate is cert: FILE and key: FILE, which may be the same file", "a certificate without "+key)
			}
		}
		t.Certificates = append(t.Certificates, c)
	}
}

func readVersion(d *decoder, n *yaml.Node, version *uint16) {
	switch {
	case n.Text == "1.2" && n.Kind != yaml.Mapping && n.Kind != yaml.Sequence:
		*version = tls.VersionTLS12
	case n.Text == "1.3" && n.Kind != yaml.Mapping && n.Kind != yaml.Sequence:
		*version = tls.VersionTLS13
	default:
		d.wrong(n, "earlier versions are not spoken (RFC 8996)", `"1.2" or "1.3"`)
	}
}

func readMaxHandshakes(d *decoder, n *yaml.Node, t *TLS) {
	if n.Kind == yaml.Text && n.Text == "auto" {
		t.MaxHandshakes = 0
		return
	}
	intInto(1, 1<<20, func(t *TLS) *int { return &t.MaxHandshakes })(d, n, t)
}

// readTickets reads off, or the keys of an object.
func readTickets(d *decoder, n *yaml.Node, t *TLS) {
	switch {
	case n.Text == "off" && (n.Kind == yaml.Text || n.Kind == yaml.Bool):
		t.Tickets = false
	case n.Kind == yaml.Mapping || n.Kind == yaml.Null:
		if g := ticketsObject.read(d, n, t); g != nil && g.has("keys") && g.has("rotate") {
			d.rep.Add(g.entries["rotate"].Pos, "remove it: who writes the files rotates them", "rotate is for keys that the server makes, and these have files")
		}
	default:
		d.wrong(n, "write off, or leave the key out for the default", "off, or rotate, or keys")
	}
}

// maxTicketKeys bounds the files: a ticket is tried with each.
const maxTicketKeys = 16

func readTicketKeys(d *decoder, n *yaml.Node, t *TLS) {
	const hint = "a list of files of 48 or 80 random bytes, as `openssl rand 80` makes them; the first is for new tickets"
	items, ok := d.items(n, hint)
	if !ok {
		return
	}
	t.ticketsPos = n.Pos
	if len(items) == 0 || len(items) > maxTicketKeys {
		d.rep.Add(n.Pos, hint, "keys needs 1 to %d files", maxTicketKeys)
	}
	seen := map[string]bool{}
	for _, item := range items {
		var path string
		if pathInto(func(s *string) *string { return s })(d, item, &path); path == "" {
			continue
		}
		if seen[path] {
			d.rep.Add(item.Pos, "remove it", "the file %s is there twice", path)
		}
		seen[path] = true
		t.TicketKeys = append(t.TicketKeys, path)
	}
}

// OwnTickets is what the files with keys of tickets are to a worker.
func (t *TLS) OwnTickets() Material {
	return Material{Kind: "ticket_keys", Paths: t.TicketKeys, Pos: t.ticketsPos}
}

// Material returns what the files of a certificate are to a worker.
func (c *Certificate) Material() Material {
	return Material{Kind: "certificate", Paths: []string{c.Cert, c.Key}, Pos: c.Pos}
}

// Material returns what the file is to a worker.
func (c *ClientAuth) Material() Material {
	return Material{Kind: "authorities", Paths: []string{c.CA}, Pos: c.Pos}
}

// Tickets is what the keys of all listeners' tickets are to a worker: no file has them.
func Tickets() Material { return Material{Kind: "tickets"} }

// materials returns those of a listener's TLS.
func (t *TLS) materials() (all []Material) {
	for i := range t.Certificates {
		all = append(all, t.Certificates[i].Material())
	}
	if t.ClientAuth != nil {
		all = append(all, t.ClientAuth.Material())
	}
	switch {
	case !t.Tickets:
	case len(t.TicketKeys) > 0:
		all = append(all, t.OwnTickets())
	default:
		all = append(all, Tickets())
	}
	return all
}
