package main

import (
	"fmt"
	"strings"
	"time"

	"reuseportd/internal/control"
)

// changeFlags are the flags of reload and upgrade.
type changeFlags struct {
	JSON    bool `help:"Print the receipt as JSON."`
	Drained bool `help:"Wait until the old generation is gone, for the exact counts of its connections."`
}

// change asks for a change and prints its receipt. The exit status is 1 if it failed, or
// was undone while it was waited for.
func (c *cli) change(req control.Request, f changeFlags) error {
	stop := func() {}
	if !f.JSON && isTerminal(c.err) {
		stop = c.showProgress()
	}
	r, err := c.changed(req, f.Drained)
	stop()
	if err != nil {
		return err
	}
	ok := r.OK && r.Undone == ""
	switch {
	case f.JSON:
		if err := printJSON(c.out, r); err != nil {
			return err
		}
	case ok:
		fmt.Fprint(c.out, receiptText(r))
	default:
		fmt.Fprint(c.err, receiptText(r))
	}
	if !ok {
		return statusError(exitFailed)
	}
	return nil
}

// changed returns the receipt of the change, at its cut-over or when it is drained. After
// an upgrade it asks the next master for the latter.
func (c *cli) changed(req control.Request, drained bool) (*control.Receipt, error) {
	command := req.Command
	resp, err := c.ask(req)
	if err != nil {
		return nil, err
	}
	r := resp.Receipt
	if r == nil {
		return nil, fmt.Errorf("%s: the master's answer has no receipt", command)
	}
	if !drained || !r.OK {
		return r, nil
	}
	resp, err = c.ask(control.Request{Command: "drained", Generation: r.Previous})
	if err != nil {
		return nil, fmt.Errorf("%s: generation %d serves, but what becomes of generation %d is not known: %w",
			command, r.Generation, r.Previous, err)
	}
	if resp.Receipt == nil {
		return nil, fmt.Errorf("%s: the master's answer has no receipt", command)
	}
	return resp.Receipt, nil
}

// receiptText describes the outcome of a change for a person.
func receiptText(r *control.Receipt) string {
	if !r.OK {
		after := ""
		if d := milliseconds(r.ReadyMS); d != "0s" { // the configuration was refused at once
			after = " after " + d
		}
		return fmt.Sprintf("%s failed%s; generation %d serves on as before.\n%s\n", r.Action, after, r.Generation, r.Error)
	}
	text := fmt.Sprintf("%s done: generation %d serves, %s after the request, in place of generation %d",
		r.Action, r.Generation, milliseconds(r.ReadyMS), r.Previous)
	if r.Action == "upgrade" {
		text += fmt.Sprintf("; version %s, PID %d", r.Version, r.PID)
	}
	text += fmt.Sprintf("; configuration %s\n", short(r.ConfigSHA256))
	if f := fate(r); f != "" {
		soFar := " so far"
		if r.Drained {
			soFar = ""
		}
		text += fmt.Sprintf("Connections of generation %d%s: %s.\n", r.Previous, soFar, f)
	}
	if r.Drained {
		text += fmt.Sprintf("Generation %d was gone %s after the cut-over.\n", r.Previous, milliseconds(r.DrainedMS))
	}
	if r.Undone != "" {
		text += fmt.Sprintf("UNDONE since: %s.\n", r.Undone)
	}
	if r.Notice != "" {
		text += r.Notice + ".\n"
	}
	if r.StayedWhy != "" {
		text += fmt.Sprintf("Not handed over: %s.\n", r.StayedWhy)
	}
	if r.Coalesced > 0 {
		text += fmt.Sprintf("It answered %s that came meanwhile.\n", plural(r.Coalesced, "further request", "further requests"))
	}
	return text
}

// fate says what has become of the connections that were open at a change, "" if there
// were none.
func fate(r *control.Receipt) string {
	var parts []string
	for _, c := range []struct {
		n    uint64
		text string
	}{{r.HandedOver, "handed over"}, {r.Stayed, "not handed over"}, {r.Finished, "finished"}, {r.Cut, "cut"}} {
		if c.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", c.n, c.text))
		}
	}
	return strings.Join(parts, ", ")
}

// milliseconds returns a duration with as many digits as a person needs.
func milliseconds(ms float64) string {
	d := time.Duration(ms * float64(time.Millisecond))
	if d < 10*time.Millisecond {
		return d.Round(100 * time.Microsecond).String()
	}
	return d.Round(time.Millisecond).String()
}

// short returns the beginning of a hash, enough for a person.
func short(sha256 string) string { return sha256[:min(8, len(sha256))] }
