package services

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"reuseportd/test/harness"
)

// Postgres is a PostgreSQL server with an empty database.
type Postgres struct {
	*harness.Program
	Port int
	bin  string // where its programs are; those in $PATH of Debian are slow scripts
	own  *Talk  // a session without a proxy
	t    testing.TB
}

// StartPostgres makes a database cluster and serves it.
func StartPostgres(t testing.TB) *Postgres { return startPostgres(t, nil) }

// StartPostgresTLS is StartPostgres for a server that has TLS, too.
func StartPostgresTLS(t testing.TB) *Postgres {
	harness.Need(t, "openssl", "openssl")
	return startPostgres(t, func(dir string) (options []string) {
		cert, key := filepath.Join(dir, "server.crt"), filepath.Join(dir, "server.key")
		harness.RunAs(t, dir, "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
			"-subj", "/CN=db", "-out", cert, "-keyout", key) // which makes the key for nobody else to read
		return []string{"ssl=on", "ssl_cert_file=" + cert, "ssl_key_file=" + key}
	})
}

// startPostgres starts a server with the options that more returns, when the account's directory is there.
func startPostgres(t testing.TB, more func(dir string) []string) *Postgres {
	t.Helper()
	p := &Postgres{Port: harness.Port(t), bin: postgresBin(t), t: t}
	dir := harness.AccountDir(t)
	data := filepath.Join(dir, "data")
	harness.RunAs(t, dir, p.Tool("initdb"), "-D", data, "-U", "tester", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
	args := []string{"-D", data, "-p", fmt.Sprint(p.Port), "-k", dir}
	var extra []string
	if more != nil {
		extra = more(dir)
	}
	for _, option := range append(extra,
		"listen_addresses=127.0.0.1", "max_connections=40", "shared_buffers=16MB",
		"fsync=off", "synchronous_commit=off", "full_page_writes=off", "autovacuum=off", "client_min_messages=warning",
	) {
		args = append(args, "-c", option)
	}
	ready := func() bool {
		return exec.Command(p.Tool("pg_isready"), "-q", "-U", "tester", "-d", "postgres", "-h", dir, "-p", fmt.Sprint(p.Port)).Run() == nil
	}
	// SIGINT is its fast shutdown: sessions are ended.
	p.Program = harness.StartProgram(t, dir, syscall.SIGINT, ready, p.Tool("postgres"), args...)
	p.own = p.Session(p.Address())
	t.Cleanup(p.own.Close)
	return p
}

// postgresBin is where the newest version has its programs. Debian has those of
// the server outside of $PATH.
func postgresBin(t testing.TB) string {
	t.Helper()
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb") // the pattern is good
	if len(found) > 0 {
		return filepath.Dir(found[len(found)-1])
	}
	harness.Need(t, "postgresql", "initdb")
	path, err := exec.LookPath("initdb")
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Dir(path)
}

// Address is the server's own.
func (p *Postgres) Address() string { return fmt.Sprintf("127.0.0.1:%d", p.Port) }

// Tool is the path of one of PostgreSQL's programs.
func (p *Postgres) Tool(name string) string { return filepath.Join(p.bin, name) }

// SQL runs statements directly on the server, and returns the rows as psql writes them:
// one line each, with a bar between columns.
func (p *Postgres) SQL(statements string) string {
	p.t.Helper()
	const end = "that is all"
	p.own.Send("%s;\n\\echo %s", statements, end)
	var rows []string
	for {
		line := p.own.Line()
		if line == end {
			return strings.Join(rows, "\n")
		}
		rows = append(rows, line)
	}
}

// Session starts psql, which ends at its first error.
func (p *Postgres) Session(address string) *Talk {
	p.t.Helper()
	return p.psql(connection(address)...)
}

// Secure is Session over TLS, for the server of a name.
func (p *Postgres) Secure(name, address string) *Talk {
	p.t.Helper()
	host, port, _ := strings.Cut(address, ":")
	return p.psql(fmt.Sprintf("host=%s hostaddr=%s port=%s user=tester dbname=postgres sslmode=require", name, host, port))
}

func (p *Postgres) psql(args ...string) *Talk {
	p.t.Helper()
	return StartTalk(p.t, p.Tool("psql"), append([]string{"-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1"}, args...)...)
}

// Bench starts pgbench.
func (p *Postgres) Bench(address string, args ...string) *Job {
	p.t.Helper()
	return StartJob(p.t, nil, p.Tool("pgbench"), append(args, connection(address)...)...)
}

// connection is how PostgreSQL's programs are told where to connect to.
func connection(address string) []string {
	host, port, _ := strings.Cut(address, ":")
	return []string{"-h", host, "-p", port, "-U", "tester", "postgres"}
}
