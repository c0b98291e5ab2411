package conformance

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"reuseportd/test/harness"
)

// nginxConf passes requests on as they came: proxy_pass without a URI, as
// nginx.org/en/docs/http/ngx_http_proxy_module.html has it.
const nginxConf = `daemon off; master_process off; pid %[1]s/pid; error_log stderr crit;
events {}
http {
	access_log off;
	client_body_temp_path %[1]s/body; proxy_temp_path %[1]s/proxy; fastcgi_temp_path %[1]s/fastcgi;
	uwsgi_temp_path %[1]s/uwsgi; scgi_temp_path %[1]s/scgi;
	server {
		listen unix:%[1]s/sock;
		location / { proxy_pass http://%[2]s; proxy_http_version 1.1; }
		location /admin/ { return 403; }
		location = /admin { return 403; }
	}
}
`

// nginx starts one in front of a server, and returns its socket.
func nginx(t *testing.T, server string) (socket string) {
	t.Helper()
	harness.Need(t, "nginx-light", "nginx")
	dir := t.TempDir()
	conf := filepath.Join(dir, "conf")
	if err := os.WriteFile(conf, fmt.Appendf(nil, nginxConf, dir, server), 0o644); err != nil {
		t.Fatal(err)
	}
	var says bytes.Buffer
	cmd := exec.Command("nginx", "-e", "stderr", "-p", dir, "-c", conf)
	cmd.Stdout, cmd.Stderr = &says, &says
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started, exited := make(chan error), make(chan error, 1)
	go func() {
		runtime.LockOSThread() // whose end would be nginx's
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		if started <- err; err == nil {
			exited <- cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-exited
	})
	socket = filepath.Join(dir, "sock")
	for end := time.Now().Add(harness.Within); ; time.Sleep(5 * time.Millisecond) { // until it listens
		c, err := net.Dial("unix", socket)
		if err == nil {
			c.Close()
			return socket
		}
		select {
		case err := <-exited:
			exited <- err
			t.Fatalf("nginx: %v\n%s", err, says.Bytes())
		default:
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
}

// pieces are what the corpus is made of: everything that some servers read in another way.
var pieces = []string{
	"a", "%2F", "%2f", "%2F%2F", "", ".", "..", "%2e", "%2E%2e", ".%2e", "..;", "..;x=y", ";", "a;b", "a\\b", "%5C", "..%5c",
	"..%2f", "%2f..", "a%2f..%2fb", "%41", "%7e", "%252e%252e", "%C3%A9", "%c0%ae", "é", "a:b@c", "https:", "~!$&'()*+,=", "A", "%20",
	"...", ".a", "%2e%2e%2e", "{}|^`\"<>", "[::1]",
}

// corpus is each piece alone, and each with each other, as segments of a path.
func corpus() (all []string) {
	for _, a := range pieces {
		all = append(all, "/"+a, "/"+a+"/", "/"+a+"?"+a, "/x/"+a+"/y?q=//"+a+"/..")
		for _, b := range pieces {
			all = append(all, "/"+a+"/"+b+"/z", "/x/"+a+b)
		}
	}
	return append(all, "/?", "/??", "/x?a?b", "/x?%2F", "/x?\\;[]{}|^", "http://h/a%2F/b", "http://h//a", "http://h", "http://h?q", "http://h/a/../b",
		"/a#b", "/%", "/%2", "/%zz", "/%00", "/x?%", "/x?%zz", "/a b", "*", "a", "h:80")
}

// otherwise returns the reason for which the two differ on purpose, "" if they may not. docs/HTTP.md says the
// same of each.
func otherwise(target, ours, theirs string) string {
	path, query, _ := strings.Cut(strings.TrimPrefix(target, "http://h"), "?")
	oursPath, oursQuery, _ := strings.Cut(ours, "?")
	same := oursQuery == strings.ReplaceAll(query, "é", "%C3%A9") && strings.HasPrefix(ours, "/")
	switch {
	case ours == "400" && strings.Contains(target, "#"):
		return "a fragment is refused (RFC 9112 section 3.2), nginx sends it"
	case theirs != ours && strings.ReplaceAll(theirs, "é", "%C3%A9") == ours:
		return "raw bytes above ~ are percent-encoded"
	case same && dotted(path) && !dotted(oursPath) && theirs == "400":
		return "dots above the root stay there (RFC 3986 section 5.2.4), nginx refuses them"
	case same && dotted(path) && !dotted(oursPath) && theirs == strings.TrimPrefix(target, "http://h"):
		return "dots are resolved, as the route was found; nginx looks for its location without them and sends them"
	}
	return ""
}

// dotted reports whether a path has a segment of dots in some reading of %2F.
func dotted(path string) bool {
	for _, segment := range strings.Split(strings.NewReplacer("%2F", "/", "%2f", "/", "%2E", ".", "%2e", ".").Replace(path), "/") {
		if segment == "." || segment == ".." {
			return true
		}
	}
	return false
}

// through sends a target to a server, and returns the target that b got, else the status.
func through(t *testing.T, b *strictBackend, addr, target string) string {
	t.Helper()
	c, err := net.Dial("unix", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(harness.Within))
	_, _ = io.WriteString(c, "GET "+target+" HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
	answer, _ := io.ReadAll(c)
	seen, _ := b.take()
	switch {
	case len(seen) == 1:
		return strings.TrimSuffix(strings.TrimPrefix(seen[0], "GET "), " 0")
	case len(seen) > 1 || len(answer) < 12:
		return fmt.Sprintf("%q %q", seen, answer)
	}
	return string(answer[9:12])
}

// TestTargetsLikeNginx: a server behind this one gets the target that it gets behind nginx's proxy_pass without
// a URI, but for the reasons that are named in otherwise.
func TestTargetsLikeNginx(t *testing.T) {
	b := strict(t)
	theirs := nginx(t, b.addr)
	s, _ := front(t, "unix", proxying(), app(b.addr))
	same, reasons := 0, make(map[string]int)
	for _, target := range corpus() {
		our, their := through(t, b, s.addr, target), through(t, b, theirs, target)
		if our == their {
			same++
		} else if reason := otherwise(target, our, their); reason != "" {
			reasons[reason]++
		} else {
			t.Errorf("of %q the server gets %q, behind nginx %q", target, our, their)
		}
	}
	if same < 1500 || len(reasons) != 4 {
		t.Errorf("%d alike, the others %v: the corpus, or nginx, isn't what it was", same, reasons)
	}
}

// TestGuardsLikeNginx: what nginx keeps from a server behind a location that forbids it, this server keeps from it as
// well.
func TestGuardsLikeNginx(t *testing.T) {
	b := strict(t)
	theirs := nginx(t, b.addr)
	s, _ := front(t, "unix", guarded(), app(b.addr))
	forbidden := 0
	for _, x := range pieces {
		for _, y := range pieces {
			for _, target := range []string{"/" + x + "/" + y + "/admin", "/admin/" + x + y, "/" + x + y + "admin"} {
				if their := through(t, b, theirs, target); their != "403" {
					continue
				}
				forbidden++
				if our := through(t, b, s.addr, target); our != "403" && our != "400" {
					t.Errorf("%q is forbidden by nginx, and gets %q", target, our)
				}
			}
		}
	}
	if forbidden < 1000 {
		t.Errorf("only %d were forbidden", forbidden)
	}
}
