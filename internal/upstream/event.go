package upstream

import "fmt"

// State is the state of a server.
type State uint8

const (
	Up         State = iota
	SlowStart        // up again, with a part of its weight
	Ejected          // not used for a while, because it failed too often in a row
	Down             // its checks fail
	Unresolved       // a name without an address yet
)

// String returns the state as logs and status have it.
func (s State) String() string {
	return [...]string{"up", "slow start", "ejected", "down", "unresolved"}[s]
}

// Event is a change for the log. Only one of all workers reports it.
type Event struct {
	Upstream string
	Server   string // its address as shown, or a name; "" for the upstream as a whole
	From, To State  // equal if something else has changed
	Why      string
}

// String returns a sentence for the log.
func (e Event) String() string {
	if e.Server == "" {
		return fmt.Sprintf("upstream %s: %s", e.Upstream, e.Why)
	}
	if e.From == e.To {
		return fmt.Sprintf("server %s of upstream %s: %s", e.Server, e.Upstream, e.Why)
	}
	return fmt.Sprintf("server %s of upstream %s is %s: %s", e.Server, e.Upstream, e.To, e.Why)
}
