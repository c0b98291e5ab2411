package acceptbench

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"reuseportd/internal/control"
	"reuseportd/internal/rig"
)

// server is one master with its workers, serving one case.
type server struct {
	*rig.Server
	dir, run string
	address  netip.AddrPort
	workers  int
}

// startWithin is how long a server may take until it serves.
const startWithin = 20 * time.Second

// startServer starts a server for c with its files in dir, which must not exist, and
// returns when all its workers serve.
func startServer(ctx context.Context, o *Options, c Case, dir string) (*server, error) {
	s := &server{dir: dir, run: filepath.Join(dir, "run"), workers: c.Workers}
	if err := os.MkdirAll(s.run, 0o700); err != nil {
		return nil, err
	}
	port, err := rig.FreePort()
	if err != nil {
		return nil, err
	}
	s.address = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(port))
	conf := filepath.Join(dir, "config.yaml")
	if err := os.WriteFile(conf, []byte(c.config(s.address.String())), 0o600); err != nil {
		return nil, err
	}
	s.Server = &rig.Server{
		Name: c.Name, Address: s.address.String(),
		Args: []string{o.Path, "run", "-c", conf, "--runtime-dir", s.run},
		// The binary that is running, even if another one is installed meanwhile.
		Path: "/proc/self/exe",
		Quit: syscall.SIGTERM,
		Log:  filepath.Join(dir, "log"),
	}
	if err = s.Launch(); err == nil {
		err = s.serving(ctx)
	}
	if err != nil {
		s.stop()
		return nil, fmt.Errorf("start a server with %s, %s: %w", c.Name, c.Model, err)
	}
	return s, nil
}

// stop ends the server with all its processes and removes its files.
func (s *server) stop() {
	s.Stop()
	_ = os.RemoveAll(s.dir)
}

// serving waits until all workers serve.
func (s *server) serving(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startWithin)
	defer cancel()
	for {
		st, err := s.status(ctx)
		if err == nil && len(serving(st)) == s.workers {
			return nil
		}
		if err != nil && !errors.Is(err, control.ErrNoMaster) && ctx.Err() == nil {
			return err
		}
		select {
		case err := <-s.Ended():
			return fmt.Errorf("it ended (%w):\n%s", orElse(err, errors.New("exit status 0")), s.log())
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.Canceled) {
				return ctx.Err()
			}
			return fmt.Errorf("it doesn't serve after %v:\n%s", startWithin, s.log())
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func (s *server) log() string {
	text, err := os.ReadFile(s.Log)
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(text))
}

// status asks the master.
func (s *server) status(ctx context.Context) (*control.Status, error) {
	client, err := control.Dial(s.run, false)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	resp, err := client.Do(ctx, control.Request{Command: "status", Cause: "bench"})
	switch {
	case err != nil:
		return nil, err
	case resp.Status == nil:
		return nil, errors.New("the master's answer has no status")
	}
	return resp.Status, nil
}

// serving returns the workers that serve.
func serving(st *control.Status) []control.Worker {
	var all []control.Worker
	for _, g := range st.Groups {
		for _, w := range g.Workers {
			if g.State == "serving" && w.State == "serving" {
				all = append(all, w)
			}
		}
	}
	return all
}
