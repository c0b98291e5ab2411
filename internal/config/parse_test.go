package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"reuseportd/internal/config/yaml"
)

func TestDefault(t *testing.T) {
	c := Default()
	if err := c.check(); err != nil {
		t.Fatal(err)
	}
	if c.Path != "" || len(c.Listeners) != 2 || c.Workers != autoWorkers() || c.Threads != 1 {
		t.Fatalf("%+v", c)
	}
	web, echo := c.Listeners[0], c.Listeners[1]
	if web.Key() != "tcp4!127.0.0.1:8080" || web.Service() != "http" || echo.Key() != "tcp4!127.0.0.1:7007" || echo.Service() != "echo" {
		t.Errorf("%s, %s", web.Key(), echo.Key())
	}
	r := web.HTTP.Routes[0]
	if r.Path != "/" || r.Host != "" || r.Respond.Status != 200 || string(r.Respond.Body) != "hello from reuseportd\n" {
		t.Errorf("%+v", r)
	}
	// The worker parses the same bytes with the same empty path.
	if _, err := ParseTrusted("", c.Raw); err != nil {
		t.Error(err)
	}
}

// TestDefaults holds the values that docs/CONFIGURATION.md promises.
func TestDefaults(t *testing.T) {
	c, err := parseOn(testHost(), `
listeners:
  - {name: a, address: 127.0.0.1:1, http: {access_log: {}, routes: [{files: {root: /srv/www}}]}}
  - {name: b, address: unix:/run/b.sock, echo: }
`)
	if err != nil {
		t.Fatal(err)
	}
	if c.DrainTimeout != 30*time.Second || c.StartTimeout != 10*time.Second || c.WorkerTimeout != 5*time.Second ||
		c.MaxConnections != 0 || c.MaxMemory != MemoryAuto || !c.Watch || c.Log != (Log{"info", "json", ""}) || c.Sandbox != (Sandbox{true, true}) ||
		c.Credential.UID != nobody || !c.Credential.Default {
		t.Errorf("%+v", c)
	}
	a, b := c.Listeners[0], c.Listeners[1]
	if a.Accept != AcceptReuseport || a.Backlog != 4096 || a.Mode != 0 || a.Pos != (Position{Line: 3, Column: 24}) {
		t.Errorf("%+v", a)
	}
	h := a.HTTP
	if h.MaxRequests != 0 || h.MaxLifetime != 0 || h.MinRate != 0 || h.TunnelTimeout != time.Hour {
		t.Errorf("a connection's life has bounds: %+v", h)
	}
	if h.HeaderTimeout != 10*time.Second || h.BodyTimeout != 30*time.Second || h.KeepaliveTimeout != 75*time.Second ||
		h.WriteTimeout != time.Minute || h.MaxRequestLine != 8192 || h.MaxHeader != 32768 || h.MaxBody != 1<<20 {
		t.Errorf("%+v", h)
	}
	if *h.AccessLog != (AccessLog{"combined", "-"}) || h.Routes[0].Files.Index != "index.html" {
		t.Errorf("%+v", h)
	}
	if b.Accept != AcceptExclusive || b.Mode != 0o666 || b.Network != "unix" || b.Echo.IdleTimeout != 0 {
		t.Errorf("%+v", b)
	}
}

func TestEverything(t *testing.T) {
	raw, err := os.ReadFile("testdata/good/everything.yaml")
	if err != nil {
		t.Fatal(err)
	}
	c, err := parseOn(testHost(), string(raw))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.check(); err != nil {
		t.Error(err)
	}
	if c.Slots() != 8 || c.MaxConnections != 10000 || c.MaxMemory != 256<<20 || c.Watch || c.DrainTimeout != 90*time.Second {
		t.Errorf("%+v", c)
	}
	if cr := c.Credential; cr == nil || cr.UID != 33 || cr.GID != 34 || cr.User != "www" || cr.Group != "www" || len(cr.Groups) != 2 {
		t.Errorf("%+v", cr)
	}
	six, unix := c.Listeners[1], c.Listeners[2]
	if six.HTTP.MaxRequests != 1000 || six.HTTP.MaxLifetime != 2*time.Hour || six.HTTP.MinRate != 1<<10 || six.HTTP.TunnelTimeout != 0 {
		t.Errorf("a connection's life: %+v", six.HTTP)
	}
	if six.Key() != "tcp6![::1]:8081" || six.Accept != AcceptExclusive || six.ClientConnections != 64 || six.HTTP.MaxBody != 16<<20 || six.HTTP.KeepaliveTimeout != 5*time.Second {
		t.Errorf("%+v", six)
	}
	if unix.Mode != 0o660 || unix.Backlog != 128 || unix.Echo.IdleTimeout != 5*time.Minute {
		t.Errorf("%+v", unix)
	}
	r := c.Listeners[0].HTTP.Routes
	if r[0].Host != "www.example.com" || r[1].Host != "[::1]" || r[2].Files.Root != "/srv/www" || r[2].Files.Index != "home.html" {
		t.Errorf("%+v", r)
	}
	want := []Header{{"Retry-After", "120"}, {"Set-Cookie", "a=1"}, {"Set-Cookie", "b=2"}}
	if got := r[1].Respond.Headers; len(got) != 3 || got[0] != want[0] || got[1] != want[1] || got[2] != want[2] {
		t.Errorf("%q", got)
	}
}

// TestText holds what can't be written in an archive: bytes that are no text.
func TestText(t *testing.T) {
	const good = "listeners: [{name: e, address: 127.0.0.1:7, echo: {}}]\n"
	for text, want := range map[string]string{
		"":                     `web.yaml:1:1: the file holds no configuration`,
		" \n\n":                `web.yaml:1:1: the file holds no configuration`,
		"# é\nuser: \xff\n":    `web.yaml:2:7: byte 0xff is not valid UTF-8`,
		"a: \x00\n":            `web.yaml:1:4: control character 0x00`,
		"a\rb: 1\n":            `web.yaml:1:2: control character 0x0d`,
		good + "é: \x1b[31m\n": `web.yaml:2:4: control character 0x1b`,
		strings.Repeat("- ", yaml.MaxDepth+1) + "x": `web.yaml:1:129: values are nested more than 64 deep`,
		strings.Repeat("- x\n", yaml.MaxTokens):     `web.yaml:100001:1: the file has more than 200000 YAML tokens`,
		strings.Repeat("#", maxFile+1):              `web.yaml:1:1: the configuration is longer than 1MiB`,
	} {
		_, err := parseOn(testHost(), text)
		if err == nil {
			t.Errorf("%.20q accepted", text)
			continue
		}
		checkErrors(t, []byte(text), err)
		if got := err.(Errors)[0]; !strings.HasPrefix(got.Error(), want) {
			t.Errorf("%.20q: got %s, want %s", text, got.Error(), want)
		}
	}
	for _, text := range []string{good, "\ufeff" + good, strings.ReplaceAll(good, "\n", "\r\n"), "---\n" + good + "...\n"} {
		if _, err := parseOn(testHost(), text); err != nil {
			t.Errorf("%.20q: %v", text, err)
		}
	}
}

// TestBomb is a small file that means a billion values.
func TestBomb(t *testing.T) {
	var b strings.Builder
	b.WriteString("log: &a0 [x,x,x,x,x,x,x,x,x,x]\n")
	for i := range 9 {
		prev := "*a" + string(rune('0'+i)) + " "
		b.WriteString("k" + string(rune('0'+i)) + ": &a" + string(rune('1'+i)) + " [" + strings.Repeat(prev+",", 10) + "]\n")
	}
	b.WriteString("listeners: *a9\n")
	if _, err := parseOn(testHost(), b.String()); err == nil {
		t.Error("accepted")
	}
	routes := "routes: &r [" + strings.Repeat("{path: /a, respond: {headers: {a: ["+strings.Repeat("1,", 1000)+"]}}},", 10) + "]"
	text := "listeners:\n- http: &h {" + routes + "}\n" + strings.Repeat("- http: *h\n", 10_000)
	_, err := parseOn(testHost(), text)
	if err == nil || !strings.Contains(err.(Errors)[0].Message, "") {
		t.Error("accepted")
	}
}

// TestBombOfNothing is one of lists whose items hold nothing: they are counted too.
func TestBombOfNothing(t *testing.T) {
	for _, list := range []string{
		"http: &x {routes: [" + strings.Repeat("~,", 1_500) + "]}",
		"tls: &x {certificates: [" + strings.Repeat("~,", 1_500) + "]}",
	} {
		key, _, _ := strings.Cut(list, ":")
		text := "listeners:\n- " + list + "\n" + strings.Repeat("- "+key+": *x\n", 1_000)
		rep := yaml.NewReport("web.yaml", []byte(text))
		d := &decoder{rep: rep, host: testHost(), schemas: schemas()}
		d.config(yaml.Parse(rep, []byte(text), dialect), defaults())
		if !rep.Bad() || d.visits <= yaml.MaxNodes {
			t.Errorf("%s: accepted with %d visits", key, d.visits)
		}
		if most := 2 * yaml.MaxNodes; d.visits > most {
			t.Errorf("%s: %d visits, of at most %d", key, d.visits, most)
		}
	}
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "r.yaml")
	if _, err := Load(path); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), path) {
		t.Error(err)
	}
	if _, err := Load(dir); err == nil || !strings.Contains(err.Error(), "is a directory") {
		t.Error(err)
	}
	write(t, path, strings.Repeat("#", maxFile+1))
	if _, err := Load(path); err == nil || !strings.Contains(err.Error(), "longer than 1MiB") {
		t.Error(err)
	}
	write(t, path, "listeners: [{name: e, address: \"unix:"+dir+"/s\", echo: {}}]\n")
	if c, err := Load(path); err != nil || c.Path != path || c.Listeners[0].Address != dir+"/s" {
		t.Error(c, err)
	}
}

// TestTrusted: what the master accepted, another user on a bare machine parses.
func TestTrusted(t *testing.T) {
	raw, err := os.ReadFile("testdata/good/everything.yaml")
	if err != nil {
		t.Fatal(err)
	}
	c, err := ParseTrusted("x.yaml", raw)
	if err != nil {
		t.Fatal(err)
	}
	if c.Credential != nil || c.check() != nil {
		t.Errorf("%+v", c.Credential)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
