package serving

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"reuseportd/internal/control"
	"reuseportd/test/harness"
	"reuseportd/test/kit"
)

// secured is a configuration with TLS in front of a web site, of files, of an echo service, and of a proxy to it.
type secured struct {
	t    *testing.T
	ca   *kit.Authority
	dir  string
	conf harness.Config
}

func newSecured(t *testing.T) *secured {
	t.Helper()
	s := &secured{t: t, ca: kit.NewAuthority(t), dir: harness.Dir(t)}
	s.renew(time.Now().Add(24 * time.Hour))
	c := harness.Default(t)
	c.Top = []string{"watch: true"}
	for name, service := range map[string]string{
		"web":   fmt.Sprintf("http: {routes: [{path: /hi, respond: {body: hello}}, {path: /p/, proxy: {upstream: back}}, {path: /, files: {root: %s}}]}", s.dir),
		"echo":  "echo: {}",
		"plain": `http: {routes: [{path: /, respond: {body: "plain\n"}}]}`,
		"tcp":   "tcp: {upstream: echoes}",
	} {
		l := harness.Listener{Name: name, Address: harness.Local(t), Service: service}
		if name != "plain" {
			l.Service = fmt.Sprintf("tls: {certificates: [{cert: %s, key: %s}]}\n    %s", s.path("cert.pem"), s.path("key.pem"), service)
		}
		c.Listeners = append(c.Listeners, l)
	}
	c.Listeners = c.Listeners[2:]
	plainEcho := harness.Echo("echoes", harness.Local(t))
	c.Listeners = append(c.Listeners, plainEcho)
	s.conf = c.With(fmt.Sprintf("upstreams:\n  - name: back\n    servers: [{address: %q}]\n  - name: echoes\n    servers: [{address: %q}]",
		c.Address("plain"), plainEcho.Address))
	return s
}

func (s *secured) path(name string) string { return filepath.Join(s.dir, name) }

func (s *secured) renew(until time.Time) {
	s.t.Helper()
	chain, key := s.ca.Sign(until, "a.example", "*.b.example")
	kit.Must(s.t, os.WriteFile(s.path("key.next"), key, 0o600))
	kit.Must(s.t, os.WriteFile(s.path("cert.next"), chain, 0o644))
	kit.Must(s.t, os.Rename(s.path("key.next"), s.path("key.pem")))
	kit.Must(s.t, os.Rename(s.path("cert.next"), s.path("cert.pem")))
}

// client is a TLS connection to a listener.
func (s *secured) client(name string, version uint16) *kit.Client {
	s.t.Helper()
	c, err := s.dial(name, s.config(version))
	kit.Must(s.t, err)
	return c
}

func (s *secured) config(version uint16) *tls.Config {
	return &tls.Config{ServerName: "a.example", RootCAs: s.ca.Pool(), MaxVersion: version}
}

func (s *secured) dial(name string, conf *tls.Config) (*kit.Client, error) {
	s.t.Helper()
	raw, err := net.DialTimeout("tcp", s.conf.Address(name), harness.Within)
	kit.Must(s.t, err)
	s.t.Cleanup(func() { raw.Close() })
	kit.Must(s.t, raw.SetDeadline(time.Now().Add(2*harness.Within)))
	c := tls.Client(raw, conf)
	if err := c.Handshake(); err != nil {
		return nil, err
	}
	return kit.NewClient(s.t, c), nil
}

// TestTLSThroughChanges: sessions of both versions go on through reloads, upgrades and a master's death: idle, in the middle of a
// request, of a download, of a pair; tickets of before are taken after.
func TestTLSThroughChanges(t *testing.T) {
	k := newSecured(t)
	big := make([]byte, 8<<20)
	_, _ = rand.Read(big)
	kit.Must(t, os.WriteFile(k.path("big"), big, 0o644))
	s := harness.Start(t, k.conf)

	versions := []uint16{tls.VersionTLS12, tls.VersionTLS13}
	var web, echo, pair, half []*kit.Client
	var loads []*kit.Client
	var sessions []*tls.Config
	for _, v := range versions {
		web, echo, pair = append(web, k.client("web", v)), append(echo, k.client("echo", v)), append(pair, k.client("tcp", v))
		h := k.client("web", v)
		h.Send("GET /hi HTTP/1.1\r\nHost: a.exa")
		half = append(half, h)
		d := k.client("web", v)
		d.Send("GET /big HTTP/1.1\r\nHost: a.example\r\n\r\n")
		loads = append(loads, d)
		conf := k.config(v)
		conf.ClientSessionCache = tls.NewLRUClientSessionCache(1)
		sessions = append(sessions, conf)
	}
	use := func(when string) {
		t.Helper()
		for i := range versions {
			web[i].Ask("/hi", "hello")
			web[i].Ask("/p/", "plain\n")
			echo[i].Echo("still here")
			pair[i].Echo("here, too")
			c, err := k.dial("web", sessions[i])
			kit.Must(t, err)
			c.Ask("/hi", "hello")
			if resumed := c.Conn.(*tls.Conn).ConnectionState().DidResume; resumed != (when != "the start") {
				t.Errorf("%s, version %x: resumed is %v", when, versions[i], resumed)
			}
			c.Close()
		}
	}
	use("the start")
	sums := make([][]byte, len(loads))
	for i := range 4 {
		for j, d := range loads { // a part of each, so that the rest waits in the server
			part := make([]byte, 300_000)
			_, err := io.ReadFull(d.R, part)
			kit.Must(t, err)
			sums[j] = append(sums[j], part...)
		}
		change := changes[i%len(changes)]
		if r := s.ChangeOver(change); r.Cut > 0 {
			t.Errorf("%s: %d were cut", change, r.Cut)
		}
		use(change)
	}
	s.Kill9Master()
	use("an orphan")
	m := s.RunMaster()
	s.WaitAlone(m.PID())
	use("adoption")
	for i, h := range half {
		h.Send("mple\r\n\r\n")
		if _, got := h.Answer(); got != "hello" {
			t.Errorf("half a request: %q", got)
		}
		d := loads[i]
		resp, err := http.ReadResponse(bufio.NewReader(io.MultiReader(bytes.NewReader(sums[i]), d.R)), nil)
		kit.Must(t, err)
		got, err := io.ReadAll(resp.Body)
		kit.Must(t, err)
		if sha256.Sum256(got) != sha256.Sum256(big) {
			t.Errorf("a download has %d bytes, or others", len(got))
		}
	}
	if st := s.Status(); st.Totals.Cut > 0 || st.Totals.Handshakes == 0 || st.Totals.Resumed != 12 {
		t.Errorf("cut %d, handshakes %d, resumed %d", st.Totals.Cut, st.Totals.Handshakes, st.Totals.Resumed)
	}
	for _, c := range append(append(web, echo...), pair...) {
		kit.Must(t, c.Conn.(*tls.Conn).CloseWrite())
	}
	echo[0].WantEOF()
	pair[1].WantEOF()
	s.Stop()
}

// changes are made of a service with TLS.
var changes = []string{"reload", "upgrade"}

// TestTLSCertificateRenewed: new files serve new handshakes without a generation; what doesn't fit is told of, and changes
// nothing; a key that comes after its certificate is waited for.
func TestTLSCertificateRenewed(t *testing.T) {
	k := newSecured(t)
	s := harness.Start(t, k.conf)
	first := s.Status()
	serial := func() int64 {
		c := k.client("web", 0)
		defer c.Close()
		return c.Conn.(*tls.Conn).ConnectionState().PeerCertificates[0].SerialNumber.Int64()
	}
	kept := k.client("web", 0)
	before := serial()
	k.renew(time.Now().Add(12 * time.Hour))
	s.WaitStatus("the new certificate", func(st *control.Status) bool {
		return len(st.Materials) == 1 && st.Materials[0].SHA256 != first.Materials[0].SHA256 && st.Materials[0].Behind == 0
	})
	if now := serial(); now == before {
		t.Errorf("the certificate %d serves", now)
	}
	kept.Ask("/hi", "hello")
	serving := serial()

	chain, key := k.ca.Sign(time.Now().Add(time.Hour), "a.example")
	put(t, k.path("cert.pem"), string(chain)) // without its key
	st := s.WaitStatus("the pair to be told", func(st *control.Status) bool { return st.Materials[0].Error != "" })
	if !strings.Contains(st.Materials[0].Error, "the key does not belong to the certificate of a.example") || !strings.Contains(st.Materials[0].Error, k.path("key.pem")) {
		t.Errorf("told is %q", st.Materials[0].Error)
	}
	if now := serial(); now != serving {
		t.Errorf("the certificate %d serves, want %d", now, serving)
	}
	if r := s.Change("reload"); r.OK || !strings.Contains(r.Error, "does not belong") {
		t.Errorf("the reload says %+v", r)
	}
	put(t, k.path("key.pem"), string(key))
	s.WaitStatus("the pair to be good", func(st *control.Status) bool { return st.Materials[0].Error == "" && st.Materials[0].Behind == 0 })
	if now := serial(); now == serving {
		t.Error("the old certificate serves still")
	}
	kept.Ask("/hi", "hello")

	expired, key := k.ca.Sign(time.Now().Add(-time.Minute), "a.example")
	put(t, k.path("key.pem"), string(key))
	put(t, k.path("cert.pem"), string(expired))
	st = s.WaitStatus("the expired one to be told", func(st *control.Status) bool { return strings.Contains(st.Materials[0].Error, "has expired on") })
	_ = serial() // which is one that is valid
	if st.Materials[0].Expires == nil {
		t.Error("status doesn't say when what serves expires")
	}
	s.Stop()
}

// TestTLSRefusals: what is no TLS, no name of ours, and no certificate that we know.
func TestTLSRefusals(t *testing.T) {
	k := newSecured(t)
	kit.Must(t, os.WriteFile(k.path("ca.pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: k.ca.Cert.Raw}), 0o644))
	second, secondKey := k.ca.Sign(time.Now().Add(time.Hour), "c.example")
	put(t, k.path("second.pem"), string(second)+string(secondKey))
	kit.Must(t, os.Chmod(k.path("second.pem"), 0o600))
	for i := range k.conf.Listeners {
		switch l := &k.conf.Listeners[i]; l.Name {
		case "echo":
			l.Service = strings.Replace(l.Service, "tls: {", fmt.Sprintf("tls: {client_auth: {ca: %s}, ", k.path("ca.pem")), 1)
		case "web":
			l.Service = strings.Replace(l.Service, "}]}", fmt.Sprintf("}, {cert: %[1]s, key: %[1]s}]}", k.path("second.pem")), 1)
		}
	}
	s := harness.Start(t, k.conf)

	plain := kit.Dial(t, k.conf.Address("web"))
	plain.Send(kit.Get)
	if resp, text := plain.Answer(); resp.StatusCode != 400 || !strings.Contains(text, "https://") {
		t.Errorf("plain HTTP: %s %q", resp.Status, text)
	}
	junk := kit.Dial(t, k.conf.Address("web"))
	junk.Send("SSH-2.0-x\r\n")
	if got, _ := io.ReadAll(junk.R); len(got) != 7 || got[0] != 21 {
		t.Errorf("what is no TLS gets %q", got)
	}
	if _, err := k.dial("web", &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10}); err == nil || !strings.Contains(err.Error(), "protocol version") {
		t.Errorf("TLS 1.1: %v", err)
	}
	if _, err := k.dial("web", &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA}}); err == nil {
		t.Error("CBC is spoken")
	}

	for host, want := range map[string]int{
		"a.example": 200, "other.example": 200, // which has no certificate but the first
		"c.example": 421, "c.example:443": 421,
	} {
		c, err := k.dial("web", k.config(0))
		kit.Must(t, err)
		c.Send("GET /hi HTTP/1.1\r\nHost: " + host + "\r\n\r\n")
		if resp, _ := c.Answer(); resp.StatusCode != want {
			t.Errorf("a request for %s: %s, want %d", host, resp.Status, want)
		}
		c.Close()
	}

	anonymous, err := k.dial("echo", k.config(0))
	if err == nil { // in TLS 1.3 a client learns of it when it reads
		_, err = anonymous.R.ReadByte()
	}
	if err == nil || !strings.Contains(err.Error(), "certificate required") {
		t.Errorf("without a certificate: %v", err)
	}
	chain, key := k.ca.Sign(time.Now().Add(time.Hour), "somebody")
	own, err := tls.X509KeyPair(chain, key)
	kit.Must(t, err)
	conf := k.config(0)
	conf.Certificates = []tls.Certificate{own}
	known, err := k.dial("echo", conf)
	kit.Must(t, err)
	known.Echo("it is me")
	s.Reload()
	known.Echo("still me")
	known.Close()
	stranger := kit.NewAuthority(t)
	chain, key = stranger.Sign(time.Now().Add(time.Hour), "stranger")
	own, err = tls.X509KeyPair(chain, key)
	kit.Must(t, err)
	conf.Certificates = []tls.Certificate{own}
	unknown, err := k.dial("echo", conf)
	if err == nil {
		_, err = unknown.R.ReadByte()
	}
	if err == nil {
		t.Error("a stranger is let in")
	}
	if st := s.Status(); st.Totals.ShakesFailed < 5 {
		t.Errorf("%d failed handshakes", st.Totals.ShakesFailed)
	}
	s.Stop()
}

// TestTLSHalfHellos: clients that never end their hello hold up nobody, and are closed in time.
func TestTLSHalfHellos(t *testing.T) {
	k := newSecured(t)
	for i := range k.conf.Listeners {
		l := &k.conf.Listeners[i]
		l.Service = strings.Replace(l.Service, "tls: {", "tls: {max_handshakes: 4, handshake_timeout: 2s, ", 1)
	}
	s := harness.Start(t, k.conf)
	var held []net.Conn
	for range 200 {
		c := kit.Dial(t, k.conf.Address("web"))
		c.Send("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
		held = append(held, c.Conn)
	}
	for range 3 {
		k.client("web", 0).Ask("/hi", "hello")
	}
	for _, c := range held {
		kit.Must(t, c.SetReadDeadline(time.Now().Add(harness.Within)))
		if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("a half hello: %v", err)
		}
	}
	if st := s.Status(); st.Totals.Panics > 0 {
		t.Errorf("%d panics", st.Totals.Panics)
	}
	s.Stop()
}

// TestTLSTruncated: a connection that ends without close_notify is no orderly end for a pair.
func TestTLSTruncated(t *testing.T) {
	k := newSecured(t)
	s := harness.Start(t, k.conf)
	c := k.client("tcp", 0)
	c.Echo("one")
	raw := c.Conn.(*tls.Conn).NetConn().(*net.TCPConn)
	kit.Must(t, raw.CloseWrite())
	kit.Must(t, raw.SetReadDeadline(time.Now().Add(harness.Within)))
	if _, err := io.ReadAll(raw); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("the connection is held")
	}
	s.Stop()
}
