package config

import (
	"net/netip"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"
)

// TestProxyDefaults holds the values that docs/CONFIGURATION.md promises.
func TestProxyDefaults(t *testing.T) {
	c, err := parseOn(testHost(), `
listeners:
  - {name: a, address: 127.0.0.1:1, http: {routes: [{proxy: {upstream: app}}]}}
  - {name: b, address: 127.0.0.1:2, tcp: {upstream: app}}
  - {name: c, address: 127.0.0.1:3, tcp: {upstream: checked}}
upstreams:
  - {name: app, servers: [{address: 10.0.0.1:80}]}
  - {name: checked, servers: [{address: 10.0.0.1:80}], check: {http: }}
`)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.check(); err != nil || len(c.Warnings) != 0 {
		t.Error(err, c.Warnings)
	}
	want := Upstream{
		Name: "app", Balance: BalanceRoundRobin, Servers: []Server{{Network: "tcp", Address: "10.0.0.1:80", Weight: 1, Pos: Position{Line: 7, Column: 37}}},
		ConnectTimeout: 2 * time.Second, IdleConnections: 64, IdleTimeout: time.Minute, MaxFailures: 3, CoolDown: 10 * time.Second,
		Retries: 2, ResolveEvery: 10 * time.Second, Pos: Position{Line: 7, Column: 12},
	}
	if got := *c.Upstream("app"); !reflect.DeepEqual(got, want) {
		t.Errorf("%+v", got)
	}
	check := Check{Interval: 5 * time.Second, Timeout: 2 * time.Second, Rise: 2, Fall: 3, Path: "/", StatusFrom: 200, StatusTo: 399}
	if got := *c.Upstream("checked").Check; got != check {
		t.Errorf("%+v", got)
	}
	proxy := &Proxy{Upstream: "app", Host: HostPreserve, ResponseTimeout: time.Minute}
	if got := c.Listeners[0].HTTP.Routes[0].Proxy; !reflect.DeepEqual(got, proxy) {
		t.Errorf("%+v", got)
	}
	tcp := &TCP{Upstream: "app", IdleTimeout: time.Hour, NoDelay: true, Keepalive: &Keepalive{60 * time.Second, 10 * time.Second, 6}}
	if got := c.Listeners[1].TCP; !reflect.DeepEqual(got, tcp) || c.Listeners[1].Service() != "tcp" {
		t.Errorf("%+v", got)
	}
	if c.Upstream("other") != nil {
		t.Error("an upstream that isn't there")
	}
}

// TestProxyEverything looks at the upstreams and their users in everything.yaml.
func TestProxyEverything(t *testing.T) {
	raw, err := os.ReadFile("testdata/good/everything.yaml")
	if err != nil {
		t.Fatal(err)
	}
	c, err := parseOn(testHost(), string(raw))
	if err != nil {
		t.Fatal(err)
	}
	app, db := c.Upstream("app"), c.Upstream("db")
	var servers []string
	for _, s := range app.Servers {
		servers = append(servers, s.Network+" "+s.Address)
	}
	if got := strings.Join(servers, ", "); got != "tcp 10.0.0.1:8080, tcp [fd00::2]:8080, unix /run/app.sock, tcp app.internal:8080" {
		t.Error(got)
	}
	if s := app.Servers; s[0].Weight != 3 || s[0].MaxConnections != 100 || s[2].Named || !s[3].Named || !s[3].Backup {
		t.Errorf("%+v", s)
	}
	if k := app.Check; *k != (Check{10 * time.Second, time.Second, 1, 5, "/health?full", "app.internal", 200, 299}) {
		t.Errorf("%+v", k)
	}
	if app.HashHeader != "X-User" || app.IdleConnections != 0 || app.MaxFailures != 0 || app.Retries != 0 || app.SlowStart != 30*time.Second {
		t.Errorf("%+v", app)
	}
	if db.Check == nil || db.Check.Path != "" || db.SendProxy != 2 || db.Balance != BalanceLeast {
		t.Errorf("%+v", db)
	}
	p := c.Listeners[3].HTTP.Routes[1].Proxy
	want := Proxy{
		Upstream: "app", StripPrefix: true, Host: "App.internal:8080",
		Request:         HeaderEdit{[]Header{{"X-A", "1"}, {"X-B", "c"}, {"X-B", "d"}}, []string{"Cookie"}},
		Response:        HeaderEdit{[]Header{{"Server", "here"}}, []string{"X-Powered-By"}},
		ResponseTimeout: 5 * time.Second, TotalTimeout: time.Minute,
	}
	if !reflect.DeepEqual(*p, want) {
		t.Errorf("%+v", p)
	}
	trusted := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("192.0.2.1/32"), netip.MustParsePrefix("fd00::/8")}
	if got := c.Listeners[0].HTTP.TrustedProxies; !reflect.DeepEqual(got, trusted) {
		t.Error(got)
	}
	if !c.Listeners[0].HTTP.UnderscoresInHeaders {
		t.Error("underscores_in_headers isn't read")
	}
	tcp := TCP{"db", nil, 0, 8 * time.Hour, true, false, &Keepalive{30 * time.Second, 10 * time.Second, 3}}
	if got := *c.Listeners[4].TCP; !reflect.DeepEqual(got, tcp) || c.Listeners[5].TCP.Keepalive != nil {
		t.Errorf("%+v", got)
	}
}

// TestUnused: an upstream that nobody uses is told, and no reason to refuse the file.
func TestUnused(t *testing.T) {
	c, err := parseOn(testHost(), "upstreams: [{name: a, servers: [{address: a:80}]}]\nlisteners: [{name: e, address: 127.0.0.1:7, echo: {}}]\n")
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Warnings) != 1 || c.Warnings[0].Error() != "web.yaml:1:20: nothing uses the upstream a (remove it, or name it in a tcp: or a proxy:)" {
		t.Error(c.Warnings)
	}
}

// TestTooManyServers can't be written in an archive.
func TestTooManyServers(t *testing.T) {
	var b strings.Builder
	b.WriteString("upstreams:\n- name: a\n  servers:\n")
	for range maxServers + 1 {
		b.WriteString("  - address: a:80\n")
	}
	b.WriteString("listeners: [{name: e, address: 127.0.0.1:7, tcp: {upstream: a}}]\n")
	_, err := parseOn(testHost(), b.String())
	if err == nil || err.(Errors)[0].Error() != "web.yaml:260:5: an upstream has at most 256 servers, and this one has 257 (make two upstreams of them)" {
		t.Error(err)
	}
}
