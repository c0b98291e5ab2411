// Package kit is what the end-to-end tests have in common: a raw client, loads that must lose nothing, and states that several of
// them bring about. Processes are in harness.
package kit

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"testing"
	"time"

	"reuseportd/internal/control"
	"reuseportd/test/harness"
	"reuseportd/test/meter"
)

// Clients is a meter for the listeners web and echo of c, as far as it has
// them, of a size for a server under the race detector on two cores.
func Clients(c harness.Config) meter.Config {
	var web, echo string
	for _, l := range c.Listeners {
		switch l.Name {
		case "web":
			web = l.Address
		case "echo":
			echo = l.Address
		}
	}
	m := meter.Defaults(web, echo)
	m.Paths = []string{"/", "/two"}
	m.FreshRate = 200
	m.BurstPause = 600 * time.Millisecond
	m.Stream = min(m.Stream, 6)
	m.Timeout = 10 * time.Second // the machine may be busy; a loss is no matter of speed
	return m
}

// Under does what do does while the clients of cfg measure.
func Under(t *testing.T, cfg meter.Config, do func(*meter.Meter)) *meter.Result {
	t.Helper()
	m, err := meter.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	done := false
	defer func() {
		if !done { // do has called FailNow
			t.Logf("\n%v", m.Stop())
		}
	}()
	do(m)
	for end := time.Now().Add(harness.Within); len(m.Waiting()) > 0 && time.Now().Before(end); { // what was done may be quick
		time.Sleep(10 * time.Millisecond)
	}
	r := m.Stop()
	done = true
	t.Logf("\n%v", r)
	return r
}

// LosingNothing is under, and nothing may be lost.
func LosingNothing(t *testing.T, cfg meter.Config, do func(*meter.Meter)) *meter.Result {
	t.Helper()
	r := Under(t, cfg, do)
	if r.Lost() > 0 {
		t.Errorf("lost %d", r.Lost())
	}
	for _, k := range r.Kinds {
		if k.Connections == 0 {
			t.Errorf("%s clients did nothing", k.Kind)
		}
	}
	return r
}

// Body is the answer to a request on a connection of its own, or the error.
func Body(address string) string {
	ctx, cancel := context.WithTimeout(context.Background(), harness.Within)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/", nil)
	if err != nil {
		return err.Error()
	}
	req.Close = true
	tr := &http.Transport{DisableKeepAlives: true}
	defer tr.CloseIdleConnections()
	resp, err := tr.RoundTrip(req)
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// Refused reports whether nobody listens at address.
func Refused(address string) bool {
	c, err := net.DialTimeout("tcp", address, time.Second)
	if err == nil {
		c.Close()
	}
	return err != nil
}

// Workers are the serving workers by PID.
func Workers(st *control.Status) map[int]control.Worker {
	all := make(map[int]control.Worker)
	if g := harness.Serving(st); g != nil {
		for _, w := range g.Workers {
			all[w.PID] = w
		}
	}
	return all
}

// Unchanged wants the server to be as st says: nothing happened.
func Unchanged(t *testing.T, s *harness.Server, st *control.Status) {
	t.Helper()
	now := s.WaitServing(st.Generation)
	if now.Generation != st.Generation || now.PID != st.PID || now.Version != st.Version ||
		now.Config.SHA256 != st.Config.SHA256 {
		t.Errorf("generation %d of master %d, version %s, configuration %.8s; want %d, %d, %s, %.8s",
			now.Generation, now.PID, now.Version, now.Config.SHA256,
			st.Generation, st.PID, st.Version, st.Config.SHA256)
	}
	if a, b := fmt.Sprint(Pids(now)), fmt.Sprint(Pids(st)); a != b {
		t.Errorf("workers %s, want still %s", a, b)
	}
}

func Pids(st *control.Status) []int {
	var all []int
	if g := harness.Serving(st); g != nil {
		for _, w := range g.Workers {
			all = append(all, w.PID)
		}
	}
	return all
}

// SomeTime lets clients meet a state that is being held: nothing happens that
// could be waited for, so it is a time after all.
func SomeTime() { time.Sleep(700 * time.Millisecond) }

func Sorted(pids []int) []int {
	slices.Sort(pids)
	return pids
}

// Must fails the test for an error.
func Must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// ParseReceipt reads the receipt that a subcommand has printed as JSON.
func ParseReceipt(t *testing.T, text string) control.Receipt {
	t.Helper()
	var r control.Receipt
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		t.Fatalf("no receipt: %v\n%s", err, text)
	}
	return r
}

// Listen takes an address without SO_REUSEPORT.
func Listen(address string) (net.Listener, error) { return net.Listen("tcp", address) }

// Figures is less, or with REUSEPORTD_FULL=1 in the environment full: what the
// server is to hold, and takes minutes to see.
func Figures(less, full int) int {
	if os.Getenv("REUSEPORTD_FULL") != "" {
		return full
	}
	return less
}

// BothChanges are the changes through which everything goes alike.
var BothChanges = []string{"reload", "upgrade"}

// Replace is harness.Server.ChangeOver.
func Replace(t *testing.T, s *harness.Server, change string) *control.Receipt {
	t.Helper()
	return s.ChangeOver(change)
}

// Partial is a conversation with a change in the middle.
type Partial struct {
	Name   string
	Before string
	Heard  []int // statuses of the answers that come before the change
	After  string
	Want   []string // bodies of the answers that come after it
	Ends   bool     // as the client asked
}

// NeedRoot skips a test that takes two users.
func NeedRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: workers are another user's, and it takes their descriptors")
	}
}
