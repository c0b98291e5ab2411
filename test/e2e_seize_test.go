package test

import (
	"os"
	"testing"

	"reuseportd/test/harness"
)

// The shards of a worker that hangs when its master is killed don't end with it: whoever waits in
// their queues is served by the next master's workers, and a duplicate that another process keeps
// takes no connections away.
func TestShardsOfAStoppedOrphan(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: a worker's descriptors are taken, by the test and by the master")
	}
	c := harness.Default(t)
	s := harness.Start(t, c)
	g := harness.Serving(s.Status())
	victim := g.Workers[0]
	l := rob(t, s, g.ID, victim)
	s.Kill9Master()
	harness.StopProcess(t, victim.PID)

	// So many that not all are the other worker's, whoever gets them: the chance is 2^-64.
	var waiting []*client
	for range 64 {
		waiting = append(waiting, dial(t, c.Address("web")))
	}
	for _, w := range waiting {
		w.send(get)
	}
	adopts(t, s)
	for _, w := range waiting {
		if _, got := w.answer(); got != "hello\n" {
			t.Fatalf("answer %q to a connection that waited to be accepted", got)
		}
		w.Close()
	}
	for range 64 {
		if got := body(c.Address("web")); got != "hello\n" {
			t.Fatalf("answer %q while somebody has a duplicate of a shard", got)
		}
	}
	l.Close()
	s.Stop()
}
