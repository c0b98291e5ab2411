package harness

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"time"

	"reuseportd/internal/control"
)

// Ask is for requests that may get no answer: it returns their error.
func (s *Server) Ask(command string) error {
	_, err := s.ask(command)
	return err
}

// ask sends one request to the current master.
func (s *Server) ask(command string) (control.Response, error) {
	c, err := control.Dial(s.RuntimeDir, false)
	if err != nil {
		return control.Response{}, err
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 2*Within)
	defer cancel()
	return c.Do(ctx, control.Request{Command: command, Cause: "test"})
}

// TryStatus is like Status, but returns an error if no master answers.
func (s *Server) TryStatus() (*control.Status, error) {
	resp, err := s.ask("status")
	if err != nil {
		return nil, err
	}
	if resp.Status == nil {
		return nil, errors.New("an answer without a status")
	}
	return resp.Status, nil
}

// Status asks the master, again if an upgrade has just replaced the one that
// was asked.
func (s *Server) Status() *control.Status {
	s.t.Helper()
	return s.WaitStatus("a master to answer", func(*control.Status) bool { return true })
}

// WaitStatus waits until the status is as wanted, and returns it.
func (s *Server) WaitStatus(what string, want func(*control.Status) bool) *control.Status {
	s.t.Helper()
	var last *control.Status
	var lastErr error
	end := time.Now().Add(Within)
	for {
		if last, lastErr = s.TryStatus(); lastErr == nil && want(last) {
			return last
		}
		if s.cmd != nil && lastErr != nil {
			select {
			case <-s.exited:
				if errors.Is(lastErr, control.ErrNoMaster) && len(s.Processes()) == 0 {
					s.t.Fatalf("waiting for %s: the server ended: %v", what, s.cmd.ProcessState)
				}
			default:
			}
		}
		if time.Now().After(end) {
			s.t.Fatalf("waited %v in vain for %s; last status: %s %v", Within, what, oneLine(last), lastErr)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// WaitServing waits until generation, or a later one, serves alone in all its
// workers and no change is in progress.
func (s *Server) WaitServing(generation uint64) *control.Status {
	s.t.Helper()
	return s.WaitStatus(fmt.Sprintf("generation %d to serve alone", generation), func(st *control.Status) bool {
		return st.Generation >= generation && st.Change == "" && len(st.Groups) == 1 && Serving(st) != nil
	})
}

// WaitGeneration is like WaitServing, but earlier generations may still be draining.
func (s *Server) WaitGeneration(generation uint64) *control.Status {
	s.t.Helper()
	return s.WaitStatus(fmt.Sprintf("generation %d to serve", generation), func(st *control.Status) bool {
		return st.Generation >= generation && st.Change == "" && Serving(st) != nil
	})
}

// Serving is the serving generation if all its workers serve, else nil.
func Serving(st *control.Status) *control.Generation {
	for i := range st.Groups {
		g := &st.Groups[i]
		if g.State != "serving" || g.ID != st.Generation {
			continue
		}
		for _, w := range g.Workers {
			if w.State != "serving" {
				return nil
			}
		}
		return g
	}
	return nil
}

// ListenerAt is what a status says of an address, zero if it knows none.
func ListenerAt(st *control.Status, address string) control.Listener {
	for _, l := range st.Listeners {
		if l.Address == address {
			return l
		}
	}
	return control.Listener{}
}

// Workers are the PIDs of the serving generation's workers.
func (s *Server) Workers() []int {
	s.t.Helper()
	g := Serving(s.WaitStatus("all workers to serve", func(st *control.Status) bool { return Serving(st) != nil }))
	var pids []int
	for _, w := range g.Workers {
		pids = append(pids, w.PID)
	}
	return pids
}

// PID returns the current master's PID.
func (s *Server) PID() int {
	s.t.Helper()
	return s.Status().PID
}

// Change asks for a reload or upgrade and returns the receipt, good or bad.
func (s *Server) Change(command string) *control.Receipt {
	s.t.Helper()
	resp, err := s.ask(command)
	// Refused, by a master that an upgrade has just replaced.
	for superseded(err) {
		resp, err = s.ask(command)
	}
	if err != nil {
		s.t.Fatalf("%s: %v", command, err)
	}
	if resp.Receipt == nil {
		s.t.Fatalf("%s: an answer without a receipt: %s", command, asJSON(resp))
	}
	return resp.Receipt
}

// superseded reports whether a master has refused that an upgrade has just replaced.
func superseded(err error) bool {
	refused := (*control.RefusedError)(nil)
	return errors.As(err, &refused) && refused.Text == control.ErrSuperseded
}

// Reload reloads, and fails the test unless that succeeds.
func (s *Server) Reload() *control.Receipt {
	s.t.Helper()
	return s.good(s.Change("reload"))
}

// Upgrade upgrades, and fails the test unless that succeeds.
func (s *Server) Upgrade() *control.Receipt {
	s.t.Helper()
	return s.good(s.Change("upgrade"))
}

func (s *Server) good(r *control.Receipt) *control.Receipt {
	s.t.Helper()
	if !r.OK {
		s.t.Fatalf("%s failed: %s", r.Action, asJSON(r))
	}
	return r
}

// ChangeOver makes a change and waits until the previous generation is gone with every
// process. It returns the final receipt, and fails the test if a connection was cut.
func (s *Server) ChangeOver(change string) *control.Receipt {
	s.t.Helper()
	old := s.Workers()
	r := s.good(s.Change(change))
	last := s.WaitServing(r.Generation).LastChange
	s.Wait("the old workers to end", func() bool {
		return !slices.ContainsFunc(old, func(pid int) bool { return !Gone(pid) })
	})
	if last == nil || last.Generation != r.Generation {
		s.t.Fatalf("last change %+v, want that to generation %d", last, r.Generation)
	}
	if last.Cut > 0 {
		s.t.Errorf("%s to generation %d has cut connections: %+v", change, r.Generation, last)
	}
	return last
}

// Result is what a subcommand did.
type Result struct {
	Code           int
	Stdout, Stderr string
}

// CLI runs a subcommand of the server's own binary to its end.
func (s *Server) CLI(args ...string) Result {
	s.t.Helper()
	return s.cli(s.command(args...))
}

// CLIWithoutDir is CLI for subcommands that have nothing to do with a master.
func (s *Server) CLIWithoutDir(args ...string) Result {
	s.t.Helper()
	return s.cli(s.plainCommand(args...))
}

// CLIFrom runs a subcommand of another binary, for when the server's own was
// replaced by something else.
func (s *Server) CLIFrom(binary string, args ...string) Result {
	s.t.Helper()
	cmd := s.command(args...)
	cmd.Path, cmd.Args[0] = binary, binary
	cmd.Err = nil
	return s.cli(cmd)
}

func (s *Server) cli(cmd *exec.Cmd) Result {
	s.t.Helper()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	// A process that has inherited the pipes must not make Wait hang.
	cmd.WaitDelay = Within
	s.must(cmd.Start())
	managed.add(cmd.Process.Pid)
	defer managed.remove(cmd.Process.Pid)
	timer := time.AfterFunc(2*Within, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	err := cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		s.t.Fatalf("%v: %v", cmd.Args, err)
	}
	return Result{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

func asJSON(v any) string {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err.Error()
	}
	return string(data)
}

func oneLine(v any) string {
	data, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(data)
}
