// Package archtest checks rules about the structure of the code: which package may import
// which, and that every package says what it is.
package archtest

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// may lists, for each package below internal/, the project's packages that it may
// import. Imports point one way: cmd → upgrade, worker → service, shard →
// eventloop.
var may = map[string][]string{
	"acceptbench":       {"control", "loadgen", "rig"},
	"cgroup":            {},
	"clients":           {"memfd"},
	"config":            {"sandbox", "tls/info"},
	"config/watch":      {},
	"config/yaml":       {},
	"material":          {"pack", "sandbox", "tls/certs"},
	"control":           {"rundir"},
	"custody":           {"config", "control", "eventloop", "upstream", "wire"},
	"eventloop":         {},
	"failpoint":         {},
	"initd":             {"parent"},
	"handover":          {"eventloop", "pack", "wire"},
	"load":              {"eventloop"},
	"loadgen":           {},
	"logging":           {"config"},
	"memfd":             {"failpoint"},
	"pack":              {},
	"parent":            {},
	"record":            {"eventloop", "memfd", "rundir", "stats"},
	"rig":               {},
	"rundir":            {"failpoint"},
	"rundir/rundirtest": {"rundir"},
	"sandbox":           {"failpoint"},
	"sdnotify":          {},
	"service/echo":      {"eventloop"},
	"service/http":      {"eventloop", "config", "material", "pack", "service/failure", "upstream"},
	"shard":             {"config", "failpoint", "load", "sockdiag"},
	"sockdiag":          {},
	"stats":             {"eventloop", "memfd"},
	"shortage":          {"cgroup"},
	"threads":           {},
	"wire":              {"failpoint", "memfd"},
	"upstream":          {"config", "eventloop", "memfd"},
	"worker":            {"clients", "config", "custody", "eventloop", "failpoint", "handover", "load", "logging", "material", "sandbox", "service/echo", "service/failure", "service/http", "service/tcp", "shortage", "stats", "threads", "tls/certs", "tls/record", "tls/transport", "upstream", "wire"},
	"lifecycle":         {"clients", "config", "control", "custody", "eventloop", "failpoint", "material", "sandbox", "shard", "shortage", "sockdiag", "stats", "upstream", "wire"},
	"upgrade": {
		"cgroup", "clients", "config", "config/watch", "control", "custody", "failpoint", "lifecycle", "logging", "material", "memfd", "parent", "record", "rundir", "sandbox", "sdnotify",
		"shard", "shortage", "sockdiag", "stats", "threads", "upstream", "wire",
	},
	"service/failure":    {},
	"service/proxyproto": {},
	"service/tcp":        {"config", "eventloop", "pack", "service/failure", "service/proxyproto", "tls/hello", "upstream"},
	"tls/handshake":      {"tls/record"},
	"tls/hello":          {},
	"tls/info":           {},
	"tls/record":         {"pack"},
	"tls/certs":          {},
	"tls/tlstest":        {},
	"tls/transport":      {"eventloop", "pack", "tls/certs", "tls/handshake", "tls/hello", "tls/info", "tls/record"},
	"archtest":           {},

	// No responder (files, proxy) knows a framing, no framing (h1) a responder: both know the seam.
	"service/http/accesslog": {"service/http/message", "tls/info"},
	"service/http/files":     {"config", "eventloop", "pack", "service/http/message", "service/http/stream"},
	"service/http/h1":        {"eventloop", "pack", "service/http/accesslog", "service/http/message", "service/http/stream", "tls/info"},
	"service/http/message":   {},
	"service/http/proxy":     {"config", "eventloop", "pack", "service/failure", "service/http/message", "service/http/stream", "tls/info", "upstream"},
	"service/http/stream":    {"eventloop", "service/http/message", "tls/info"},
}

// forbidden are packages of the standard library that would bring in what a
// package must not know.
var forbidden = map[string][]string{
	"config/watch": {"net"},
	"config/yaml":  {"net", "os", "golang.org/x/sys/unix"},
	"eventloop":    {"net", "os", "log", "github.com/rs/zerolog"},
	"lifecycle":    {"net", "os/exec", "os/signal", "syscall", "github.com/cloudflare/tableflip"}, // what is done is others' to do
	"load":         {"github.com/cilium/ebpf"},                                                    // which workers have no use for
	"service/echo": {"net", "os", "github.com/rs/zerolog"},
	"service/http": {"net", "net/http"},

	"service/http/accesslog": {"net", "net/http"},
	"service/http/files":     {"net", "net/http", "os"},
	"service/http/h1":        {"net", "net/http", "os"},
	"service/http/proxy":     {"net", "net/http", "os"},
	"service/http/stream":    {"net", "net/http", "os"},
	"service/http/message":   {"net", "net/http", "os", "golang.org/x/sys/unix"},

	"service/proxyproto": {"net", "os", "github.com/rs/zerolog"},
	"service/tcp":        {"net", "os", "github.com/rs/zerolog"},
	"tls/hello":          {"net", "os", "crypto/tls", "github.com/rs/zerolog"},
}

const root = "../.."

// sources calls f with each package directory below dir and its Go files.
func sources(t *testing.T, dir string, f func(pkg string, files []string)) {
	t.Helper()
	err := filepath.WalkDir(filepath.Join(root, dir), func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		if d.Name() == "testdata" {
			return filepath.SkipDir
		}
		entries, err := os.ReadDir(path)
		if err != nil {
			return err
		}
		var files []string
		for _, e := range entries {
			if n := e.Name(); strings.HasSuffix(n, ".go") && !strings.HasSuffix(n, "_test.go") {
				files = append(files, filepath.Join(path, n))
			}
		}
		if len(files) > 0 {
			rel, _ := filepath.Rel(filepath.Join(root, dir), path)
			f(filepath.ToSlash(rel), files)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestImportsPointOneWay(t *testing.T) {
	seen := 0
	sources(t, "internal", func(pkg string, files []string) {
		seen++
		allowed, known := may[pkg]
		if !known {
			t.Errorf("internal/%s is not in the list of this test: say what it may import", pkg)
		}
		for _, file := range files {
			tree, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
			if err != nil {
				t.Fatal(err)
			}
			for _, imp := range tree.Imports {
				checkImport(t, pkg, file, strings.Trim(imp.Path.Value, `"`), allowed)
			}
		}
	})
	if seen < 10 {
		t.Fatalf("only %d packages found: the test looks in the wrong place", seen)
	}
}

func checkImport(t *testing.T, pkg, file, path string, allowed []string) {
	t.Helper()
	for _, no := range forbidden[pkg] {
		if path == no {
			t.Errorf("%s imports %s, which internal/%s must not know", file, path, pkg)
		}
	}
	own, ok := strings.CutPrefix(path, "reuseportd/internal/")
	if !ok {
		if strings.HasPrefix(path, "reuseportd/") {
			t.Errorf("%s imports %s: internal packages don't import commands or tests", file, path)
		}
		return
	}
	for _, a := range allowed {
		if a == own || strings.HasPrefix(own, pkg+"/") {
			return
		}
	}
	t.Errorf("%s imports internal/%s; internal/%s may not", file, own, pkg)
}

func TestEveryPackageHasOneComment(t *testing.T) {
	for _, dir := range []string{"internal", "cmd", "test", "bench"} {
		if _, err := os.Stat(filepath.Join(root, dir)); err != nil {
			continue
		}
		sources(t, dir, func(pkg string, files []string) {
			comments := 0
			for _, file := range files {
				tree, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments|parser.PackageClauseOnly)
				if err != nil {
					t.Fatal(err)
				}
				if tree.Doc != nil {
					comments++
				}
			}
			if comments != 1 {
				t.Errorf("%s/%s has %d package comments, want 1", dir, pkg, comments)
			}
		})
	}
}
