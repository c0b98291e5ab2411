package serving

import (
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"reuseportd/internal/control"
	"reuseportd/test/harness"
	"reuseportd/test/kit"
)

// TestTLSFacts: what is known of a client's session goes to servers, in the fields that the configuration says, and into the access
// log; also of one that has come from another process. What a client says of itself in such a field doesn't.
func TestTLSFacts(t *testing.T) {
	k := newSecured(t)
	got := make(chan http.Header, 10)
	back := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got <- r.Header }))
	defer back.Close()
	log := filepath.Join(harness.Dir(t), "access.log")
	ca := caFile(t, k.ca)
	c := harness.Default(t).WithWorkers(1).With(fmt.Sprintf("upstreams: [{name: app, servers: [{address: %q}]}]", back.Listener.Addr()))
	c = c.WithListeners(harness.Listener{Name: "web", Address: harness.Local(t), Service: fmt.Sprintf(`tls: {certificates: [{cert: %s, key: %s}], client_auth: {mode: request, ca: %s}}
    http:
      access_log: {format: json, file: %s}
      routes:
        - path: /
          proxy:
            upstream: app
            request_headers:
              set:
                X-Client: "{tls.client.subject}"
                X-Sum: "{tls.client.fingerprint}"
                X-Serial: "{tls.client.serial} of {tls.client.issuer}"
                X-TLS: "v={tls.version} {tls.cipher} {tls.resumed} {tls.server_name} {kept}"
`, k.path("cert.pem"), k.path("key.pem"), ca, log)})
	k.conf = c
	s := harness.Start(t, c)

	conf := k.config(tls.VersionTLS13)
	chain, key := k.ca.Sign(time.Now().Add(time.Hour), "who, ever\r\nX-Evil: 1")
	pair, err := tls.X509KeyPair(chain, key)
	kit.Must(t, err)
	conf.Certificates = []tls.Certificate{pair}
	known, err := k.dial("web", conf)
	kit.Must(t, err)
	unknown := k.client("web", tls.VersionTLS12)
	block, _ := pem.Decode(chain)
	sum := sha256.Sum256(block.Bytes)
	for _, when := range []string{"at first", "after a reload"} {
		for _, cl := range []*kit.Client{known, unknown} {
			cl.Send("GET / HTTP/1.1\r\nHost: a.example\r\nX-Client: CN=liar\r\nX_Client: CN=liar\r\nX-Sum: liar\r\n\r\n")
			if resp, _ := cl.Answer(); resp.StatusCode != 200 {
				t.Fatal(resp.Status)
			}
			h := <-got
			want := http.Header{
				"X-Client": {`CN=who\, ever\0D\0AX-Evil: 1`}, "X-Sum": {hex.EncodeToString(sum[:])}, "X-Serial": {"4 of CN=test authority"},
				"X-Tls": {"v=1.3 TLS_AES_128_GCM_SHA256 no a.example {kept}"},
			}
			if cl == unknown {
				want = http.Header{"X-Tls": {"v=1.2 TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 no a.example {kept}"}}
			}
			for _, name := range []string{"X-Client", "X-Sum", "X-Serial", "X-Tls", "X-Evil"} {
				if name == "X-Serial" && cl == known {
					if v := h.Get(name); !strings.HasSuffix(v, " of CN=test authority") || v[0] == ' ' {
						t.Errorf("%s: %s is %q", when, name, v)
					}
					continue
				}
				if fmt.Sprint(h[name]) != fmt.Sprint(want[name]) {
					t.Errorf("%s: %s is %q, want %q", when, name, h[name], want[name])
				}
			}
		}
		if when == "at first" {
			s.ChangeOver("reload")
		}
	}
	known.Close()
	unknown.Close()
	s.Stop()
	raw, err := os.ReadFile(log)
	kit.Must(t, err)
	lines := strings.Split(strings.TrimSpace(string(raw)), "\n")
	if len(lines) != 4 {
		t.Fatalf("%d lines:\n%s", len(lines), raw)
	}
	for i, line := range lines {
		var l struct {
			TLS struct {
				Version, Cipher, ServerName, ClientSubject string
				Name                                       string `json:"server_name"`
				Subject                                    string `json:"client_subject"`
				Resumed                                    bool
			}
		}
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		version, subject := "1.3", `CN=who\, ever\0D\0AX-Evil: 1`
		if i%2 == 1 {
			version, subject = "1.2", ""
		}
		if l.TLS.Version != version || l.TLS.Name != "a.example" || l.TLS.Subject != subject || l.TLS.Cipher == "" || l.TLS.Resumed {
			t.Errorf("line %d: %+v", i, l.TLS)
		}
	}
}

// TestRedirect: a location made of the request's host and target, as they came.
func TestRedirect(t *testing.T) {
	c := harness.Default(t).WithWorkers(1)
	c.Listeners[0].Service = `http: {routes: [{path: /, respond: {status: 308, location: "https://{host}{target}", body: moved}}, {path: /old, respond: {status: 301, location: "https://new.example/x?from={target}"}}]}`
	s := harness.Start(t, c)
	conn := kit.Dial(t, c.Address("web"))
	for target, want := range map[string]string{
		"/":                      "https://a.example/",
		"/a/../b%2Fc?q=1&r=%20":  "https://a.example/b%2Fc?q=1&r=%20",
		"//evil.example/":        "https://a.example//evil.example/",
		"/\xc3\xa9":              "https://a.example/%C3%A9",
		"/old/page?x":            "https://new.example/x?from=/old/page?x",
		"http://a.example:8080/": "https://a.example/",
	} {
		conn.Send("GET " + target + " HTTP/1.1\r\nHost: A.example:8080\r\n\r\n")
		resp, body := conn.Answer()
		if got := resp.Header.Get("Location"); got != want || resp.StatusCode < 301 || strings.HasPrefix(target, "/old") == (body == "moved") {
			t.Errorf("%s: %s to %q with %q, want %q", target, resp.Status, got, body, want)
		}
	}
	conn.Send("HEAD / HTTP/1.1\r\nHost: a.example\r\n\r\nGET / HTTP/1.0\r\n\r\n")
	if resp, err := http.ReadResponse(conn.R, &http.Request{Method: "HEAD"}); err != nil || resp.Header.Get("Location") != "https://a.example/" || resp.ContentLength != 5 {
		t.Errorf("HEAD: %+v, %v", resp, err)
	}
	if resp, _ := conn.Answer(); resp.StatusCode != 400 {
		t.Errorf("without a host: %s", resp.Status)
	}
	for keys, want := range map[string]string{
		`location: "https://{host}"`:                                            "status 200 has no location",
		`status: 308, location: "{target}"`:                                     "begins with what the client says",
		`status: 308, location: "https://{uri}/"`:                               "there are {host} and {target}",
		`status: 308, location: "https://a b"`:                                  "without blanks",
		`status: 308, location: "https://a/", headers: {Location: "https://b"}`: "two locations",
	} {
		bad := c
		bad.Listeners = append([]harness.Listener(nil), c.Listeners...)
		bad.Listeners[0].Service = "http: {routes: [{respond: {" + keys + "}}]}"
		s.WriteConfig(bad)
		if r := s.CLI("check", "-c", s.ConfigPath); r.Code == 0 || !strings.Contains(r.Stderr, want) || !strings.Contains(r.Stderr, "config.yaml:") {
			t.Errorf("%s: status %d\n%s\nwant %s", keys, r.Code, r.Stderr, want)
		}
	}
	s.WriteConfig(c)
}

// TestTicketKeys: two servers with the same files take each other's tickets, and go over to other keys without a new generation.
func TestTicketKeys(t *testing.T) {
	k := newSecured(t)
	keys := [2]string{k.path("ticket1.key"), k.path("ticket2.key")}
	write := func(path, seed string) {
		sum := sha256.Sum256([]byte(seed))
		kit.Must(t, os.WriteFile(path+".next", append(sum[:], sum[:16]...), 0o600))
		kit.Must(t, os.Rename(path+".next", path))
	}
	write(keys[0], "b")
	write(keys[1], "a")
	var servers [2]*harness.Server
	var confs [2]harness.Config
	for i := range servers {
		confs[i] = harness.Default(t).WithWorkers(1).WithListeners(harness.Listener{Name: "web", Address: harness.Local(t), Service: fmt.Sprintf(
			"tls: {certificates: [{cert: %s, key: %s}], tickets: {keys: [%s, %s]}}\n    http: {routes: [{respond: {body: hello}}]}",
			k.path("cert.pem"), k.path("key.pem"), keys[0], keys[1])})
		confs[i].Top[0] = "watch: true"
		servers[i] = harness.Start(t, confs[i])
	}
	sessions := k.config(tls.VersionTLS12)
	sessions.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	use := func(server int) bool {
		k.conf = confs[server]
		c, err := k.dial("web", sessions)
		kit.Must(t, err)
		c.Ask("/", "hello")
		defer c.Close()
		return c.Conn.(*tls.Conn).ConnectionState().DidResume
	}
	if use(0) || !use(1) || !use(0) {
		t.Error("the servers don't take each other's tickets")
	}
	for i, seeds := range [][2]string{{"c", "b"}, {"e", "d"}} {
		write(keys[0], seeds[0])
		write(keys[1], seeds[1])
		for _, s := range servers {
			s.WaitStatus("the new keys", func(st *control.Status) bool {
				for _, m := range st.Materials {
					if m.Kind == "ticket_keys" && m.Number >= uint64(2+i) && m.Behind == 0 && m.Error == "" {
						return true
					}
				}
				return false
			})
		}
		if resumed := use(0); resumed != (i == 0) {
			t.Errorf("keys %v: resumed %v", seeds, resumed)
		}
	}
	bad := confs[0]
	bad.Listeners = []harness.Listener{{Name: "web", Address: confs[0].Listeners[0].Address, Service: strings.Replace(confs[0].Listeners[0].Service, "keys: [", "rotate: 1h, keys: ["+k.path("key.pem")+", ", 1)}}
	servers[0].WriteConfig(bad)
	if r := servers[0].CLI("check", "-c", servers[0].ConfigPath); r.Code == 0 || !strings.Contains(r.Stderr, "rotate is for keys that the server makes") {
		t.Errorf("status %d\n%s", r.Code, r.Stderr)
	}
	bad.Listeners[0].Service = strings.Replace(bad.Listeners[0].Service, "rotate: 1h, ", "", 1)
	servers[0].WriteConfig(bad)
	if r := servers[0].Change("reload"); r.OK || !strings.Contains(r.Error, "48 or 80 random") {
		t.Errorf("%+v", r)
	}
}
