package harness

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// Config is a configuration file in the making. Zero fields are left out.
type Config struct {
	Workers, Threads int
	Top              []string // further lines, as in "drain_timeout: 5s"
	Listeners        []Listener
}

// Listener is one listener; Service is YAML, as in "echo: {}".
type Listener struct {
	Name, Address, Service string
}

// Web answers "hello", and "two" for /two.
func Web(name, address string) Listener { return Answer(name, address, "hello") }

// Answer answers body, and body with a "2" for /two.
func Answer(name, address, body string) Listener {
	return Listener{name, address, fmt.Sprintf(
		`http: {routes: [{path: /, respond: {body: "%s\n"}}, {path: /two, respond: {body: "%[1]s 2\n"}}]}`, body)}
}

// Echo is an echo listener.
func Echo(name, address string) Listener { return Listener{name, address, "echo: {}"} }

// Local is 127.0.0.1 with a free port.
func Local(t testing.TB) string { return fmt.Sprintf("127.0.0.1:%d", Port(t)) }

// Default is a configuration with two workers, a web listener and an echo
// listener, which doesn't reload by itself.
func Default(t testing.TB) Config {
	t.Helper()
	return Config{
		Workers:   2,
		Top:       []string{"watch: false"},
		Listeners: []Listener{Web("web", Local(t)), Echo("echo", Local(t))},
	}
}

// With returns a copy with more top-level lines.
func (c Config) With(lines ...string) Config {
	c.Top = append(append([]string(nil), c.Top...), lines...)
	return c
}

// AsRoot returns a copy whose workers run as the test does, also where that is root: for what is
// done to a worker's process that only its own user may do.
func (c Config) AsRoot() Config {
	if os.Geteuid() != 0 {
		return c
	}
	return c.With("user: root")
}

// WithWorkers returns a copy with n worker processes.
func (c Config) WithWorkers(n int) Config {
	c.Workers = n
	return c
}

// WithListeners returns a copy with other listeners.
func (c Config) WithListeners(l ...Listener) Config {
	c.Listeners = l
	return c
}

// Address is the address of the listener called name.
func (c Config) Address(name string) string {
	for _, l := range c.Listeners {
		if l.Name == name {
			return l.Address
		}
	}
	panic("no listener " + name)
}

// String is the file's text.
func (c Config) String() string {
	var b strings.Builder
	if c.Workers > 0 {
		fmt.Fprintf(&b, "workers: %d\n", c.Workers)
	}
	if c.Threads > 0 {
		fmt.Fprintf(&b, "threads: %d\n", c.Threads)
	}
	for _, line := range c.Top {
		fmt.Fprintln(&b, line)
	}
	b.WriteString("listeners:\n")
	for _, l := range c.Listeners {
		fmt.Fprintf(&b, "  - name: %s\n    address: %q\n    %s\n", l.Name, l.Address, l.Service)
	}
	return b.String()
}

// WriteConfig replaces the configuration file by a rename.
func (s *Server) WriteConfig(c Config) {
	s.t.Helper()
	s.WriteConfigText(c.String())
	s.noteAddresses(c)
}

// WriteConfigText replaces the configuration file by a rename.
func (s *Server) WriteConfigText(text string) {
	s.t.Helper()
	next := s.ConfigPath + ".next"
	s.must(os.WriteFile(next, []byte(text), 0o644))
	s.must(os.Rename(next, s.ConfigPath))
}
