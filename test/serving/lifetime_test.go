package serving

import (
	"testing"

	"reuseportd/test/harness"
	"reuseportd/test/kit"
)

// Requests count wherever they were answered, and a bound that comes with a reload counts those
// before it.
func TestMaxRequestsTravel(t *testing.T) {
	c := harness.Default(t)
	address := c.Address("web")
	web := func(bound string) harness.Config {
		return c.WithListeners(harness.Listener{
			Name: "web", Address: address, Service: `http: {` + bound + ` routes: [{respond: {body: "hello\n"}}]}`,
		})
	}
	s := harness.Start(t, web(""))
	conn, other := kit.Dial(t, address), kit.Dial(t, address)
	conn.Get()
	for _, change := range kit.BothChanges {
		s.WriteConfig(web("max_requests: 3, max_lifetime: 1h,"))
		kit.Replace(t, s, change)
	}
	conn.Send(kit.Get)
	conn.WantKept("hello\n")
	if n := conn.UntilClose("hello\n"); n != 1 {
		t.Errorf("closed with the answer to request %d", 2+n)
	}
	if n := other.UntilClose("hello\n"); n != 3 {
		t.Errorf("another's is closed with the answer to request %d", n)
	}
}
