package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"reuseportd/internal/control"
)

// ask puts one request to the running master. A master that has just been
// replaced says so, and the next one is asked.
func (c *cli) ask(command string) (control.Response, error) {
	const tries = 20
	for i := 0; ; i++ {
		resp, err := c.askOnce(command)
		var refused *control.RefusedError
		if !errors.As(err, &refused) || refused.Text != control.ErrSuperseded || i == tries {
			return resp, err
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func (c *cli) askOnce(command string) (control.Response, error) {
	client, err := control.Dial(c.RuntimeDir)
	if err != nil {
		return control.Response{}, err
	}
	defer client.Close()
	return client.Do(context.Background(), control.Request{Command: command, Cause: "command"})
}

func isNoMaster(err error) bool { return errors.Is(err, control.ErrNoMaster) }

func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// change asks for a change and prints its receipt. One that failed is exit
// status 1.
func (c *cli) change(command string, asJSON bool) error {
	resp, err := c.ask(command)
	if err != nil {
		return err
	}
	r := resp.Receipt
	if r == nil {
		return fmt.Errorf("%s: the master's answer has no receipt", command)
	}
	switch {
	case asJSON:
		if err := printJSON(c.out, r); err != nil {
			return err
		}
	case r.OK:
		fmt.Fprint(c.out, receiptText(r))
	default:
		fmt.Fprint(c.err, receiptText(r))
	}
	if !r.OK {
		return statusError(exitFailed)
	}
	return nil
}

type reloadCmd struct {
	JSON bool `help:"Print the receipt as JSON."`
}

// Run asks for a reload.
func (r *reloadCmd) Run(c *cli) error { return c.change("reload", r.JSON) }

type upgradeCmd struct {
	JSON bool `help:"Print the receipt as JSON."`
}

// Run asks for an upgrade.
func (u *upgradeCmd) Run(c *cli) error { return c.change("upgrade", u.JSON) }

// receiptText says for a person what a change came to.
func receiptText(r *control.Receipt) string {
	if !r.OK {
		return fmt.Sprintf("%s failed after %s; generation %d serves on as before.\n%s\n",
			r.Action, milliseconds(r.ReadyMS), r.Generation, r.Error)
	}
	text := fmt.Sprintf("%s done: generation %d serves, %s after the request, in place of generation %d",
		r.Action, r.Generation, milliseconds(r.ReadyMS), r.Previous)
	if r.Action == "upgrade" {
		text += fmt.Sprintf("; version %s, PID %d", r.Version, r.PID)
	}
	text += fmt.Sprintf("; configuration %s\n", short(r.ConfigSHA256))
	if r.Coalesced > 0 {
		text += fmt.Sprintf("It answered %s that came meanwhile.\n", plural(r.Coalesced, "further request", "further requests"))
	}
	return text
}

func milliseconds(ms float64) string {
	return time.Duration(ms * float64(time.Millisecond)).Round(time.Millisecond).String()
}

// short is how much of a hash a person needs.
func short(sha256 string) string { return sha256[:min(8, len(sha256))] }
