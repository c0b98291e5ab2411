package services

import (
	"fmt"
	"os"
	"testing"

	"reuseportd/test/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }

// changes are made under the traffic of each service: ten reloads, ten upgrades.
const changes = 20

// front is what a service's clients connect to.
type front struct {
	address string
	s       *harness.Server // nil if that is the service itself
}

// change makes the i-th change, after which the old processes are gone, and nothing
// was cut, though the traffic goes on.
func (f front) change(i int) {
	if f.s != nil {
		f.s.ChangeOver(changeOf(i))
	}
}

// through runs a test with clients that go through reuseportd, and, with
// REUSEPORTD_FULL=1 in the environment, with clients that don't: a service that
// fails those too is not our matter.
func through(t *testing.T, service, config string, test func(t *testing.T, f front)) {
	t.Run("proxied", func(t *testing.T) {
		c := inFrontOf(t, service, config)
		test(t, front{c.Address("front"), harness.Start(t, c)})
	})
	t.Run("direct", func(t *testing.T) {
		if os.Getenv("REUSEPORTD_FULL") == "" {
			t.Skip("REUSEPORTD_FULL=1 shows that the service does without us what it does with us")
		}
		test(t, front{address: service})
	})
}

// inFrontOf is a configuration with a listener called front, before a service of
// upstream "behind" with one server.
func inFrontOf(t *testing.T, service, config string) harness.Config {
	t.Helper()
	c := harness.Config{Workers: 2, Top: []string{"watch: false", "drain_timeout: 2m"}}
	return c.With(upstream("behind", service)).
		WithListeners(harness.Listener{Name: "front", Address: harness.Local(t), Service: config})
}

// upstream is the configuration of an upstream with one server, and more keys.
func upstream(name, server string, more ...string) string {
	text := fmt.Sprintf("  - name: %s\n    servers: [{address: %q}]", name, server)
	for _, line := range more {
		text += "\n    " + line
	}
	return "upstreams:\n" + text
}

func changeOf(i int) string { return []string{"reload", "upgrade"}[i%2] }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
