package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"syscall"
	"time"

	"reuseportd/internal/acceptbench"
	"reuseportd/internal/rig"
)

// benchCmd is `reuseportd bench`.
type benchCmd struct {
	Accept benchAcceptCmd `cmd:"" help:"Measure the ways to accept, or with --steering the ways to steer, on this machine."`
}

type benchAcceptCmd struct {
	Only        []string      `placeholder:"NAME,…" help:"Only these strategies: reuseport, reuseport+exclusive, exclusive, mutex, shared. With --steering: hash, random, cpu, load."`
	Models      []string      `placeholder:"NAME,…" help:"Only these models: single, processes, threads."`
	Loops       int           `placeholder:"N" help:"Event loops of the models processes and threads (default: the CPUs); with --steering, workers (default: 4)."`
	Rounds      int           `placeholder:"N" help:"Rounds of each case (default: 5)."`
	Duration    time.Duration `placeholder:"TIME" help:"Length of each load in a round (default: 500ms; with --steering 5s)."`
	Connections int           `placeholder:"N" help:"Connections of the loads that go as fast as they can (default: 64)."`
	Rate        int           `placeholder:"N" help:"Connections a second of the paced load (default: a quarter of what one event loop manages here)."`
	Quick       bool          `help:"Fewer and shorter rounds: for a first look."`
	Steering    bool          `help:"Compare steerings, while one worker stands still for 200 ms in every second."`
	Workers     bool          `help:"Print what each worker has done, too."`
	JSON        bool          `help:"Print JSON."`
	Plot        filePath      `placeholder:"FILE.svg" help:"Draw the table, too."`
}

// Help is printed below the flags.
func (b *benchAcceptCmd) Help() string {
	return "Takes two to three minutes with two CPUs, starts its own servers on 127.0.0.1 and leaves nothing behind.\n\n" + acceptbench.Explain
}

// Exit statuses as of a shell for a program that SIGINT or SIGPIPE has ended.
const (
	exitInterrupted = 130
	exitBrokenPipe  = 141
)

// Run measures and prints.
func (b *benchAcceptCmd) Run(c *cli) error {
	o := acceptbench.Options{
		Loops: b.Loops, Rounds: b.Rounds, Duration: b.Duration, Connections: b.Connections, Rate: b.Rate,
		Only: b.Only, Models: b.Models, Quick: b.Quick, Steering: b.Steering,
		Version: versionString(), Progress: c.err, Terminal: isTerminal(c.err),
	}
	if err := o.Settle(); err != nil {
		return err
	}
	var err error
	if o.Path, err = os.Executable(); err != nil {
		return fmt.Errorf("find the path of this binary: %w", err)
	}
	if err := b.checkPlot(); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), rig.Interrupts()...)
	defer stop()
	result, err := acceptbench.Run(ctx, o)
	switch {
	case ctx.Err() != nil && err != nil:
		fmt.Fprintln(c.err, "reuseportd: bench: interrupted; nothing is left running")
		return statusError(exitInterrupted)
	case err != nil:
		return fmt.Errorf("bench: %w", err)
	}
	err = b.print(c.out, result)
	if drawErr := b.draw(result); drawErr != nil { // the result took minutes, so it is printed and drawn in any case
		return errors.Join(err, drawErr)
	}
	if errors.Is(err, syscall.EPIPE) {
		return statusError(exitBrokenPipe) // as by `| head`, which has read enough
	}
	return err
}

func (b *benchAcceptCmd) print(to io.Writer, result *acceptbench.Result) error {
	if b.JSON {
		return printJSON(to, result)
	}
	var text bytes.Buffer
	result.Print(&text, b.Workers)
	_, err := text.WriteTo(to)
	return err
}

// checkPlot returns an error, before anything is measured, if the file can't be written.
// It leaves the file as it was.
func (b *benchAcceptCmd) checkPlot() error {
	if b.Plot == "" {
		return nil
	}
	path := string(b.Plot)
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err == nil {
		return errors.Join(f.Close(), os.Remove(path))
	}
	if errors.Is(err, fs.ErrExist) {
		if f, err = os.OpenFile(path, os.O_WRONLY, 0); err == nil {
			return f.Close()
		}
	}
	return fmt.Errorf("--plot: %w", err)
}

func (b *benchAcceptCmd) draw(result *acceptbench.Result) error {
	if b.Plot == "" {
		return nil
	}
	var svg bytes.Buffer
	if err := result.Plot(&svg); err != nil {
		return err
	}
	if err := os.WriteFile(string(b.Plot), svg.Bytes(), 0o644); err != nil {
		return fmt.Errorf("--plot: %w", err)
	}
	return nil
}
