package services

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"reuseportd/test/harness"
)

// A pgbench client does so many transactions, of seven statements each, between
// two changes.
const perChange = 15

// script is pgbench's own "tpcb-like", and waits at the gate for the test.
const script = `\set aid random(1, 100000)
\set tid random(1, 10)
\set delta random(-5000, 5000)
\set epoch :done / :per
SELECT gate(:epoch);
\set done :done + 1
BEGIN;
UPDATE pgbench_accounts SET abalance = abalance + :delta WHERE aid = :aid;
SELECT abalance FROM pgbench_accounts WHERE aid = :aid;
UPDATE pgbench_tellers SET tbalance = tbalance + :delta WHERE tid = :tid;
UPDATE pgbench_branches SET bbalance = bbalance + :delta WHERE bid = 1;
INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES (:tid, 1, :aid, :delta, CURRENT_TIMESTAMP);
END;
`

const gate = `CREATE TABLE epoch (n int);
CREATE FUNCTION gate(int) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN WHILE NOT EXISTS (SELECT FROM epoch WHERE n >= $1) LOOP PERFORM pg_sleep(0.002); END LOOP; END $$`

// pgbench's sessions and one of psql's, in the middle of a transaction, are the
// same at the end as at the beginning, and what they did is all there.
func TestPostgres(t *testing.T) {
	p := StartPostgres(t)
	through(t, p.Address(), "tcp: {upstream: behind}", func(t *testing.T, f front) {
		p.t = t
		p.Bench(f.address, "-i", "-q", "-s", "1").Wait()
		p.SQL("DROP TABLE IF EXISTS epoch; DROP FUNCTION IF EXISTS gate; " + gate)
		file := filepath.Join(t.TempDir(), "script")
		must(t, os.WriteFile(file, []byte(script), 0o644))

		session := p.Session(f.address)
		session.Send("SELECT pg_backend_pid();")
		pid := session.Line()
		session.Send("BEGIN; CREATE TEMP TABLE mine (n int); DECLARE c CURSOR FOR SELECT generate_series(1, 1000);")
		const clients, total = 4, perChange * (changes + 1)
		bench := p.Bench(f.address, "-n", "-M", "prepared", "-f", file, "-D", "done=0", "-D", fmt.Sprint("per=", perChange),
			"-c", fmt.Sprint(clients), "-j", "2", "-t", fmt.Sprint(total))
		sessions := func() string {
			return p.SQL("SELECT string_agg(pid::text, ' ' ORDER BY pid) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()")
		}
		harness.Wait(t, "pgbench to be at the gate", func() bool { bench.WantRunning(); return len(strings.Fields(sessions())) == clients+1 })
		before := sessions()
		for i := range changes + 1 {
			p.SQL(fmt.Sprintf("INSERT INTO epoch VALUES (%d)", i))
			if i < changes {
				f.change(i)
			}
			session.Send("FETCH 1 FROM c;")
			session.Want(fmt.Sprint(i + 1))
			session.Send("INSERT INTO mine VALUES (%d); SELECT count(*) FROM mine;", i)
			session.Want(fmt.Sprint(i + 1))
			if i < changes {
				if now := sessions(); now != before {
					t.Fatalf("sessions %s after change %d, were %s", now, i+1, before)
				}
			}
		}
		report := bench.Wait()
		for _, want := range []string{
			fmt.Sprintf("actually processed: %d/%[1]d", clients*total), "failed transactions: 0 (",
		} {
			if !strings.Contains(report, want) {
				t.Errorf("pgbench doesn't say %q:\n%s", want, report)
			}
		}
		session.Send("COMMIT; SELECT pg_backend_pid(), count(*), sum(n) FROM mine;")
		session.Want(fmt.Sprintf("%s|%d|%d", pid, changes+1, changes*(changes+1)/2))
		session.Close()
		sums := p.SQL(`SELECT count(*), sum(delta) - (SELECT sum(abalance) FROM pgbench_accounts),
			sum(delta) - (SELECT sum(tbalance) FROM pgbench_tellers), sum(delta) - (SELECT sum(bbalance) FROM pgbench_branches) FROM pgbench_history`)
		if want := fmt.Sprintf("%d|0|0|0", clients*total); sums != want {
			t.Errorf("the history's length, and what its sum differs from those of accounts, tellers and branches by: %s, want %s", sums, want)
		}
	})
}

// TestPostgresByName: sessions over TLS go to the server that they name, and through changes, though nobody here has
// their keys.
func TestPostgresByName(t *testing.T) {
	one, two := StartPostgresTLS(t), StartPostgresTLS(t)
	c := harness.Config{Workers: 2, Top: []string{"watch: false", "drain_timeout: 2m"}}
	c = c.With(upstream("one", one.Address()), fmt.Sprintf("  - name: two\n    servers: [{address: %q}]", two.Address())).
		WithListeners(harness.Listener{
			Name: "front", Address: harness.Local(t), Service: `tcp: {sni: {"*.one.example": one, two.example: two}}`,
		})
	f := front{c.Address("front"), harness.Start(t, c)}
	const ask = "SELECT ssl, inet_server_port(), pg_backend_pid() FROM pg_stat_ssl WHERE pid = pg_backend_pid();"
	a, b := one.Secure("db.one.example", f.address), one.Secure("two.example", f.address)
	answers := map[*Talk]string{}
	for talk, port := range map[*Talk]int{a: one.Port, b: two.Port} {
		talk.Send(ask)
		answers[talk] = talk.Line()
		if want := fmt.Sprintf("t|%d|", port); !strings.HasPrefix(answers[talk], want) {
			t.Fatalf("the session says %q, want %s…", answers[talk], want)
		}
	}
	for i := range 4 {
		f.change(i)
		for talk, answer := range answers {
			talk.Send(ask)
			talk.Want(answer)
		}
	}
	a.Close()
	b.Close()
}
