package rig

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Reuseportd is our server.
type Reuseportd struct {
	*Server
	EchoAddress string // "" if it has no echo listener
	Keys        string // further keys of the web listener, each `key: value` on a line of its own
	Tail        string // further configuration after the rest: more items of listeners, then other keys
	conf, run   string // configuration file, runtime directory
}

// NewReuseportd puts the server's binary, a copy of the given one or built from
// this module if that is "", into dir, where its other files will be, too.
func NewReuseportd(ctx context.Context, dir, binary string) (*Reuseportd, error) {
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, "reuseportd")
	if binary == "" {
		if err := Build(ctx, path, "", "reuseportd/cmd/reuseportd"); err != nil {
			return nil, fmt.Errorf("build reuseportd: %w", err)
		}
	} else if err := CopyBinary(binary, path); err != nil {
		return nil, err
	}
	port, err := FreePort()
	if err != nil {
		return nil, err
	}
	r := &Reuseportd{conf: filepath.Join(dir, "config.yaml"), run: filepath.Join(dir, "run")}
	r.Server = &Server{
		Name:    "reuseportd",
		Version: FirstLine(exec.CommandContext(ctx, path, "version")),
		Address: fmt.Sprintf("127.0.0.1:%d", port),
		Args:    []string{path, "run", "-c", r.conf, "--runtime-dir", r.run},
		Quit:    syscall.SIGTERM,
		Log:     filepath.Join(dir, "reuseportd.log"),
	}
	return r, os.MkdirAll(r.run, 0o755)
}

// Build builds a package of the module in a directory, or in the current one if that is "",
// as `make build` does: a static binary starts in two thirds of the time. The error
// has what the compiler said.
func Build(ctx context.Context, path, dir, pkg string, flags ...string) error {
	build := exec.CommandContext(ctx, "go", slices.Concat([]string{"build", "-trimpath", "-o", path}, flags, []string{pkg})...)
	build.Dir = dir
	// If it is killed it leaves temporary files, so they are put beside the binary, whose
	// directory is removed.
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOTMPDIR="+filepath.Dir(path))
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	return nil
}

// Configure writes the configuration; a running server uses it after a reload.
func (r *Reuseportd) Configure(workers int, drain time.Duration) error {
	text := fmt.Sprintf("workers: %d\nwatch: false\ndrain_timeout: %v\nlog: {level: warn, format: text}\nlisteners:\n"+
		"  - name: web\n    address: %s\n    http: {routes: [{respond: {body: \"hello\\n\"}}]}\n", workers, drain, r.Address)
	for line := range strings.Lines(r.Keys) {
		text += "    " + strings.TrimSpace(line) + "\n"
	}
	if r.EchoAddress != "" {
		text += fmt.Sprintf("  - name: echo\n    address: %s\n    echo: {}\n", r.EchoAddress)
	}
	return os.WriteFile(r.conf, []byte(text+r.Tail), 0o644)
}

// ReplaceBinary replaces the binary by a copy of itself by a rename, as a package manager
// does.
func (r *Reuseportd) ReplaceBinary() error { return CopyBinary(r.Args[0], r.Args[0]) }

// CopyBinary copies an executable file, and replaces one of that name by a rename.
func CopyBinary(from, to string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	next := to + ".next"
	if err := os.WriteFile(next, data, 0o755); err != nil {
		return err
	}
	return os.Rename(next, to)
}

// Master reads the PID file.
func (r *Reuseportd) Master() (int, error) { return readPID(filepath.Join(r.run, "reuseportd.pid")) }

// Receipt is the server's receipt of a change.
type Receipt struct {
	OK         bool      `json:"ok"`
	Error      string    `json:"error"`
	PID        int       `json:"pid"` // the master's PID after the change
	Started    time.Time `json:"started"`
	ReadyMS    float64   `json:"ready_ms"` // from Started to the cut-over
	HandedOver uint64    `json:"handed_over"`
	Finished   uint64    `json:"finished"`
	Cut        uint64    `json:"cut"`
	Drained    bool      `json:"drained"`
	DrainedMS  float64   `json:"drained_ms"`  // from the cut-over to the end of the old generation's processes
	HandoverMS float64   `json:"handover_ms"` // from the cut-over to the last acknowledgement
}

// CutOver returns when the new generation began to serve, by the server's own account.
func (r Receipt) CutOver() time.Time {
	return r.Started.Add(time.Duration(r.ReadyMS * float64(time.Millisecond)))
}

// Change runs `reload`, `upgrade` or another command that prints a receipt. It returns an
// error if the change failed.
func (r *Reuseportd) Change(ctx context.Context, command string, flags ...string) (Receipt, error) {
	var receipt Receipt
	err := r.ask(ctx, &receipt, command, flags...)
	if err == nil && !receipt.OK {
		err = fmt.Errorf("%s: %s", command, receipt.Error)
	}
	return receipt, err
}

// Status is a part of what `status` prints.
type Status struct {
	PID        int     `json:"pid"`
	LastChange Receipt `json:"last_change"`
	Groups     []struct {
		State   string `json:"state"`
		Workers []struct {
			PID int `json:"pid"`
		} `json:"workers"`
	} `json:"generations"`
}

// Workers returns the PIDs of all generations' workers.
func (s Status) Workers() []int {
	var pids []int
	for _, g := range s.Groups {
		for _, w := range g.Workers {
			if w.PID > 0 {
				pids = append(pids, w.PID)
			}
		}
	}
	return pids
}

// Status runs `status`.
func (r *Reuseportd) Status(ctx context.Context) (Status, error) {
	var s Status
	return s, r.ask(ctx, &s, "status")
}

func (r *Reuseportd) ask(ctx context.Context, answer any, command string, flags ...string) error {
	args := append([]string{command, "--json", "--runtime-dir", r.run}, flags...)
	cmd := exec.CommandContext(ctx, r.Args[0], args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if jsonErr := json.Unmarshal(out, answer); jsonErr == nil {
		return nil // a failed change has status 1, and a receipt
	} else if err == nil {
		err = jsonErr
	}
	return fmt.Errorf("reuseportd %s: %w: %s%s", command, err, out, stderr.Bytes())
}

// Has reports whether a command has a flag, since servers may be of different releases.
func (r *Reuseportd) Has(ctx context.Context, command, flag string) bool {
	out, _ := exec.CommandContext(ctx, r.Args[0], command, "--help").CombinedOutput()
	return bytes.Contains(out, []byte(flag))
}
