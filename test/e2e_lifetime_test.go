package test

import (
	"testing"

	"reuseportd/test/harness"
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
	conn, other := dial(t, address), dial(t, address)
	conn.get()
	for _, change := range bothChanges {
		s.WriteConfig(web("max_requests: 3, max_lifetime: 1h,"))
		replace(t, s, change)
	}
	conn.send(get)
	conn.wantKept("hello\n")
	if n := conn.untilClose("hello\n"); n != 1 {
		t.Errorf("closed with the answer to request %d", 2+n)
	}
	if n := other.untilClose("hello\n"); n != 3 {
		t.Errorf("another's is closed with the answer to request %d", n)
	}
}
