package upstream

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"reuseportd/internal/config"
)

// TestMain is another process with a board as descriptor 3, when it is run as that.
func TestMain(m *testing.M) {
	if what := os.Getenv("UPSTREAM_TEST_PROCESS"); what != "" {
		process(what)
	}
	goleak.VerifyTestMain(m)
}

func newBoard(t testing.TB) *Board {
	t.Helper()
	b, err := NewBoard()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return b
}

// reopened is the same board in another mapping, as another process has it.
func reopened(t testing.TB, b *Board) *Board {
	t.Helper()
	fd, err := unix.FcntlInt(uintptr(b.FD()), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		t.Fatal(err)
	}
	other, err := OpenBoard(fd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = other.Close() })
	return other
}

// app is an upstream of servers with these weights, 10.0.0.1:80 and so on.
func app(balance config.Balance, weights ...int) config.Upstream {
	u := config.Upstream{
		Name: "app", Balance: balance, MaxFailures: 3, CoolDown: 10 * time.Second,
		ResolveEvery: 10 * time.Second,
	}
	for i, w := range weights {
		u.Servers = append(u.Servers, config.Server{
			Network: "tcp", Address: fmt.Sprintf("10.0.0.%d:80", i+1), Weight: w,
		})
	}
	return u
}

// events keeps what is told.
type events struct {
	mu   sync.Mutex
	all  []string
	came chan struct{}
}

func newEvents() *events { return &events{came: make(chan struct{}, 1000)} }

func (e *events) tell(ev Event) {
	e.mu.Lock()
	e.all = append(e.all, ev.String())
	e.mu.Unlock()
	e.came <- struct{}{}
}

func (e *events) want(t *testing.T, want ...string) {
	t.Helper()
	e.mu.Lock()
	defer e.mu.Unlock()
	if !slices.Equal(e.all, want) {
		t.Errorf("told:\n%s\nwant:\n%s", strings.Join(e.all, "\n"), strings.Join(want, "\n"))
	}
	e.all = nil
}

// next waits for the next event that has the text.
func (e *events) next(t *testing.T, text string) {
	t.Helper()
	for {
		e.mu.Lock()
		for i, s := range e.all {
			if strings.Contains(s, text) {
				e.all = e.all[i+1:]
				e.mu.Unlock()
				return
			}
		}
		e.mu.Unlock()
		select {
		case <-e.came:
		case <-time.After(20 * time.Second):
			e.mu.Lock()
			defer e.mu.Unlock()
			t.Fatalf("nobody told %q, but: %q", text, e.all)
		}
	}
}

func newSet(t testing.TB, b *Board, tell func(Event), conf ...config.Upstream) *Set {
	t.Helper()
	s, err := New(conf, b, tell)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func newChooserOf(t testing.TB, s *Set, row int) *Chooser {
	t.Helper()
	c, err := s.Chooser("app", row)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// pick returns the last number of the address that was chosen, "" if none was.
func pick(c *Chooser, now int64, key uint64, tried *Tried) (string, *Server) {
	s, why := c.Pick(now, key, tried)
	if s == nil {
		return why.String(), nil
	}
	return strings.TrimSuffix(strings.TrimPrefix(s.Name(), "10.0.0."), ":80"), s
}

// picks makes n sessions, one after the other, and returns who had them.
func picks(c *Chooser, now int64, n int) string {
	var all strings.Builder
	for range n {
		name, s := pick(c, now, mix(uint64(n)), nil)
		all.WriteString(name)
		if s != nil {
			c.Done(s)
		}
	}
	return all.String()
}
