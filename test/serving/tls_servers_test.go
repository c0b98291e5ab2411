package serving

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"reuseportd/internal/control"
	"reuseportd/test/harness"
	"reuseportd/test/kit"
)

// securedServer is a server of HTTPS, and one that echoes in TLS, with certificates for a.example.
type securedServer struct {
	web, echo      string // addresses
	conf           *tls.Config
	made, resumed  atomic.Int64 // connections of both
	release        chan struct{}
	gotName, proto atomic.Value // of the latest handshake
}

func newSecuredServer(t *testing.T, ca *kit.Authority, change func(*tls.Config)) *securedServer {
	t.Helper()
	chain, key := ca.Sign(time.Now().Add(time.Hour), "a.example")
	pair, err := tls.X509KeyPair(chain, key)
	kit.Must(t, err)
	s := &securedServer{conf: &tls.Config{Certificates: []tls.Certificate{pair}}, release: make(chan struct{})}
	if change != nil {
		change(s.conf)
	}
	s.conf.VerifyConnection = func(st tls.ConnectionState) error {
		s.made.Add(1)
		if st.DidResume {
			s.resumed.Add(1)
		}
		s.gotName.Store(st.ServerName)
		s.proto.Store(st.NegotiatedProtocol)
		return nil
	}
	listen := func(protocols ...string) net.Listener {
		l, err := net.Listen("tcp4", "127.0.0.1:0")
		kit.Must(t, err)
		t.Cleanup(func() { l.Close() })
		c := s.conf.Clone()
		c.NextProtos = protocols
		return tls.NewListener(l, c)
	}
	web, echo := listen("http/1.1"), listen()
	s.web, s.echo = web.Addr().String(), echo.Addr().String()
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "secret") })
	mux.HandleFunc("/slow", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, strings.Repeat("a", 100_000))
		w.(http.Flusher).Flush()
		<-s.release
		_, _ = io.WriteString(w, strings.Repeat("b", 100_000))
	})
	srv := &http.Server{Handler: mux}
	go func() { _ = srv.Serve(web) }()
	t.Cleanup(func() { srv.Close() })
	go func() {
		for {
			c, err := echo.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.Copy(c, c)
			}()
		}
	}()
	return s
}

// inFront is a configuration of a proxy, "web", and a tcp listener, "echo", in front of servers that speak TLS.
func inFront(t *testing.T, keys, web, echo string) harness.Config {
	t.Helper()
	return harness.Default(t).WithWorkers(1).With(fmt.Sprintf("upstreams:\n  - {name: app, max_failures: 0, tls: {%s}, servers: [{address: %q}]}\n  - {name: back, max_failures: 0, tls: {%s}, servers: [{address: %q}]}", keys, web, keys, echo)).
		WithListeners(
			harness.Listener{Name: "web", Address: harness.Local(t), Service: "http: {routes: [{path: /, proxy: {upstream: app}}]}"},
			harness.Listener{Name: "echo", Address: harness.Local(t), Service: "tcp: {upstream: back}"})
}

// caFile writes an authority's certificate.
func caFile(t *testing.T, ca *kit.Authority) string {
	t.Helper()
	path := filepath.Join(harness.Dir(t), "ca.pem")
	chain, _ := ca.Sign(time.Now().Add(time.Hour), "x.example")
	i := strings.LastIndex(string(chain), "-----BEGIN CERTIFICATE-----")
	kit.Must(t, os.WriteFile(path, chain[i:], 0o644))
	return path
}

// TestTLSToServers: in both versions, connections to servers go on through a reload, an upgrade and a master's death: kept ones, an
// answer in the middle, a pair. New ones are resumed.
func TestTLSToServers(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			ca := kit.NewAuthority(t)
			back := newSecuredServer(t, ca, func(c *tls.Config) { c.MaxVersion = version })
			c := inFront(t, "server_name: a.example, ca: "+caFile(t, ca), back.web, back.echo)
			s := harness.Start(t, c)

			web := kit.Dial(t, c.Address("web"))
			if _, got := web.Get(); got != "secret" {
				t.Fatalf("got %q", got)
			}
			if name, proto := back.gotName.Load(), back.proto.Load(); name != "a.example" || proto != "http/1.1" {
				t.Errorf("the server was asked for %q and %q", name, proto)
			}
			pair := kit.Dial(t, c.Address("echo"))
			pair.Echo("hello")
			slow := kit.Dial(t, c.Address("web"))
			slow.Send("GET /slow HTTP/1.1\r\nHost: test\r\n\r\n")
			half := make([]byte, 1000)
			slow.Soon()
			if _, err := io.ReadFull(slow.R, half); err != nil {
				t.Fatal(err)
			}
			web.Get() // its connection was taken for the slow one
			made := back.made.Load()
			for _, change := range []func(){
				func() { s.ChangeOver("reload") },
				func() { s.ChangeOver("upgrade") },
				func() { s.Kill9Master(); s.WaitAlone(s.RunMaster().PID()) },
			} {
				change()
				pair.Echo("still here")
				if _, got := web.Get(); got != "secret" {
					t.Errorf("got %q", got)
				}
			}
			if now := back.made.Load(); now != made {
				t.Errorf("%d handshakes with servers were made anew", now-made)
			}
			close(back.release)
			slow.Soon()
			rest, err := io.ReadAll(io.LimitReader(slow.R, 199_000))
			if err != nil || strings.Count(string(rest), "b") < 99_000 {
				t.Errorf("the rest of the answer: %d bytes, %v", len(rest), err)
			}
			before := back.resumed.Load()
			for range 3 { // each connection of a client gets one of its own
				again := kit.Dial(t, c.Address("echo"))
				again.Echo("once more")
				again.CloseWrite()
				again.WantEOF()
			}
			if n := back.resumed.Load() - before; n < 2 {
				t.Errorf("%d of 3 sessions with the server were resumed", n)
			}
			pair.CloseWrite()
			pair.WantEOF()
		})
	}
}

// greeter returns a server that speaks first, and in the clear.
func greeter(t *testing.T) string {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	kit.Must(t, err)
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, "220 mail.example ESMTP\r\n")
			go func() { defer c.Close(); _, _ = io.Copy(io.Discard, c) }()
		}
	}()
	return l.Addr().String()
}

// TestTLSToWrongServers: who can't prove to be the server gets nothing, and the reason is told.
func TestTLSToWrongServers(t *testing.T) {
	ca := kit.NewAuthority(t)
	good := newSecuredServer(t, ca, nil)
	late := newSecuredServer(t, ca, func(c *tls.Config) {
		chain, key := ca.Sign(time.Now().Add(-time.Hour), "a.example")
		pair, err := tls.X509KeyPair(chain, key)
		kit.Must(t, err)
		c.Certificates = []tls.Certificate{pair}
	})
	picky := newSecuredServer(t, ca, func(c *tls.Config) { c.ClientAuth, c.ClientCAs = tls.RequireAndVerifyClientCert, ca.Pool() })
	plain := greeter(t)
	known := "ca: " + caFile(t, ca)
	for name, tt := range map[string]struct{ keys, web, echo, want string }{
		"another name":      {"server_name: b.example, " + known, good.web, good.echo, "certificate is valid for a.example, not b.example"},
		"an address":        {known, good.web, good.echo, "doesn't contain any IP SANs"},
		"another authority": {"server_name: a.example, ca: " + caFile(t, kit.NewAuthority(t)), good.web, good.echo, "signed by unknown authority"},
		"expired":           {"server_name: a.example, " + known, late.web, late.echo, "has expired"},
		"wants ours":        {"server_name: a.example, " + known, picky.web, picky.echo, ""},
		"no TLS":            {"server_name: a.example, " + known, plain, plain, "first record does not look like a TLS handshake"},
	} {
		t.Run(name, func(t *testing.T) {
			c := inFront(t, tt.keys, tt.web, tt.echo)
			s := harness.Start(t, c)
			web := kit.Dial(t, c.Address("web"))
			web.Send(kit.Get)
			if resp, _ := web.Answer(); resp.StatusCode != http.StatusBadGateway {
				t.Errorf("the client got %s", resp.Status)
			}
			if raw, err := net.DialTimeout("tcp", c.Address("echo"), harness.Within); err == nil { // it may be reset as early as in connect(2)
				pair := kit.NewClient(t, raw)
				pair.Soon()
				if b, err := pair.R.ReadByte(); err == nil {
					t.Errorf("the client got %q", b)
				}
				raw.Close()
			}
			if tt.want == "" {
				return // in TLS 1.3 the server's refusal comes behind the handshake
			}
			s.WaitStatus("failures of both servers", func(st *control.Status) bool {
				n := uint64(0)
				for _, u := range st.Upstreams {
					for _, srv := range u.Servers {
						n += srv.Failures["TLS failed"]
					}
				}
				return n >= 2
			})
			s.WaitLog(tt.want)
		})
	}
}

// TestTLSToServersWithCertificate: a server that asks for a client's certificate gets it, and another one when the files change.
func TestTLSToServersWithCertificate(t *testing.T) {
	ca := kit.NewAuthority(t)
	var subject atomic.Value
	back := newSecuredServer(t, ca, func(c *tls.Config) {
		c.ClientAuth, c.ClientCAs = tls.RequireAndVerifyClientCert, ca.Pool()
		c.SessionTicketsDisabled = true
	})
	back.conf.VerifyConnection = nil
	check := func(st tls.ConnectionState) error {
		subject.Store(st.PeerCertificates[0].Subject.CommonName)
		return nil
	}
	own := harness.Dir(t)
	write := func(name string) {
		chain, key := ca.Sign(time.Now().Add(time.Hour), name)
		kit.Must(t, os.WriteFile(filepath.Join(own, "key.next"), key, 0o600))
		kit.Must(t, os.Rename(filepath.Join(own, "key.next"), filepath.Join(own, "key.pem")))
		put(t, filepath.Join(own, "cert.pem"), string(chain))
	}
	write("one.example")
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	kit.Must(t, err)
	defer l.Close()
	conf := back.conf.Clone()
	conf.VerifyConnection = check
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Connection", "close") })}
	go func() { _ = srv.Serve(tls.NewListener(l, conf)) }()
	defer srv.Close()
	c := inFront(t, fmt.Sprintf("server_name: a.example, ca: %s, cert: %s/cert.pem, key: %s/key.pem", caFile(t, ca), own, own), l.Addr().String(), back.echo)
	c.Top[0] = "watch: true"
	s := harness.Start(t, c)
	kit.Dial(t, c.Address("web")).Get()
	if got := subject.Load(); got != "one.example" {
		t.Errorf("the server saw %v", got)
	}
	pids := fmt.Sprint(kit.Pids(s.Status()))
	write("two.example")
	s.WaitStatus("the other certificate", func(st *control.Status) bool {
		for _, m := range st.Materials {
			if m.Kind == "certificate" && m.Number > 2 && m.Behind == 0 {
				return true
			}
		}
		return false
	})
	kit.Dial(t, c.Address("web")).Get()
	if got := subject.Load(); got != "two.example" {
		t.Errorf("the server saw %v", got)
	}
	if now := fmt.Sprint(pidsOf(s)); now != pids {
		t.Errorf("workers %s, then %s", pids, now)
	}
}

func pidsOf(s *harness.Server) []int { return kit.Pids(s.Status()) }

// TestTruncatedServers: where only the end of the connection says that all has come, it must be the server's word: a cut one is no
// end.
func TestTruncatedServers(t *testing.T) {
	ca := kit.NewAuthority(t)
	chain, key := ca.Sign(time.Now().Add(time.Hour), "a.example")
	pair, err := tls.X509KeyPair(chain, key)
	kit.Must(t, err)
	for _, says := range []bool{true, false} {
		l, err := net.Listen("tcp4", "127.0.0.1:0")
		kit.Must(t, err)
		defer l.Close()
		go func() {
			for {
				raw, err := l.Accept()
				if err != nil {
					return
				}
				go func() {
					c := tls.Server(raw, &tls.Config{Certificates: []tls.Certificate{pair}})
					_, _ = c.Read(make([]byte, 1000))
					_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nall of it?")
					if says {
						_ = c.Close()
						return
					}
					_ = raw.(*net.TCPConn).CloseWrite()
					_, _ = io.Copy(io.Discard, raw)
					raw.Close()
				}()
			}
		}()
		c := inFront(t, "server_name: a.example, ca: "+caFile(t, ca), l.Addr().String(), l.Addr().String())
		harness.Start(t, c)
		web := kit.Dial(t, c.Address("web"))
		web.Send(kit.Get)
		web.Soon()
		resp, err := http.ReadResponse(web.R, nil)
		if err == nil {
			_, err = io.ReadAll(resp.Body)
		}
		if (err == nil) != says {
			t.Errorf("close_notify %v: the answer ended with %v", says, err)
		}
		tcp := kit.Dial(t, c.Address("echo"))
		tcp.Send("x")
		tcp.Soon()
		if _, err = io.ReadAll(tcp.R); (err == nil) != says {
			t.Errorf("close_notify %v: the pair ended with %v", says, err)
		}
	}
}

// TestTLSToServersBadly: configurations that mean nothing, each with its place.
func TestTLSToServersBadly(t *testing.T) {
	ca := caFile(t, kit.NewAuthority(t))
	for keys, want := range map[string]string{
		"cert: " + ca:                          "no key",
		"verify: false, ca: " + ca:             "ca is for checking",
		"server_name: 'a b'":                   "a host name or an IP address",
		"ca: /nonexistent/ca.pem":              "no such file",
		"ca: " + ca + ", cert: /x, key: " + ca: "no such file",
		"min_version: '1.1'":                   `"1.2" or "1.3"`,
		"hostname: a.example":                  "hostname",
	} {
		c := inFront(t, keys, "127.0.0.1:1", "127.0.0.1:1")
		s := harness.Prepare(t, c)
		r := s.CLI("check", "-c", s.ConfigPath)
		if out := r.Stdout + r.Stderr; r.Code == 0 || !strings.Contains(out, want) || !strings.Contains(out, ".yaml:") {
			t.Errorf("%s: status %d\n%s\nwant %s", keys, r.Code, out, want)
		}
	}
	c := inFront(t, "", "127.0.0.1:1", "127.0.0.1:1")
	c.Listeners[1].Service = "tcp: {sni: {a.example: back}}"
	s := harness.Prepare(t, c)
	if r := s.CLI("check", "-c", s.ConfigPath); r.Code == 0 || !strings.Contains(r.Stderr, "TLS in TLS") {
		t.Errorf("tls to what passes TLS on: status %d\n%s", r.Code, r.Stderr)
	}
	c = inFront(t, "verify: false", "127.0.0.1:1", "127.0.0.1:1")
	s = harness.Prepare(t, c)
	if r := s.CLI("check", "-c", s.ConfigPath); r.Code != 0 || !strings.Contains(r.Stdout+r.Stderr, "are not verified") {
		t.Errorf("verify: false: status %d\n%s%s", r.Code, r.Stdout, r.Stderr)
	}
}

// TestTLSBehindProxyHeader: a server that expects a PROXY protocol header gets it in the clear, in front of the handshake, from
// clients' pairs and from health checks.
func TestTLSBehindProxyHeader(t *testing.T) {
	ca := kit.NewAuthority(t)
	chain, key := ca.Sign(time.Now().Add(time.Hour), "a.example")
	pair, err := tls.X509KeyPair(chain, key)
	kit.Must(t, err)
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	kit.Must(t, err)
	defer l.Close()
	heads := make(chan string, 100)
	go func() {
		for {
			raw, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer raw.Close()
				var head []byte
				for b := make([]byte, 1); !strings.HasSuffix(string(head), "\r\n"); head = append(head, b[0]) {
					if _, err := raw.Read(b); err != nil {
						return
					}
				}
				c := tls.Server(raw, &tls.Config{Certificates: []tls.Certificate{pair}})
				if c.Handshake() == nil {
					heads <- strings.Fields(string(head))[1]
				}
				_, _ = io.Copy(c, c)
			}()
		}
	}()
	c := harness.Default(t).WithWorkers(1).With(fmt.Sprintf("upstreams:\n  - {name: back, send_proxy: v1, check: {}, tls: {server_name: a.example, ca: %s}, servers: [{address: %q}]}", caFile(t, ca), l.Addr())).
		WithListeners(harness.Listener{Name: "echo", Address: harness.Local(t), Service: "tcp: {upstream: back}"})
	s := harness.Start(t, c)
	if head := <-heads; head != "UNKNOWN" {
		t.Errorf("a check is announced as %s", head)
	}
	conn := kit.Dial(t, c.Address("echo"))
	conn.Echo("hello")
	for head := <-heads; head != "TCP4"; head = <-heads {
		if head != "UNKNOWN" {
			t.Errorf("a client is announced as %s", head)
		}
	}
	s.WaitStatus("good checks", func(st *control.Status) bool { return st.Upstreams[0].Servers[0].ChecksOK > 0 })
	if st := s.Status(); st.Upstreams[0].Servers[0].ChecksFailed > 0 {
		t.Errorf("%+v", st.Upstreams[0].Servers[0])
	}
}
