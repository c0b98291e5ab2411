package main

import (
	"fmt"
	"strings"
	"time"

	"reuseportd/internal/control"
)

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

// receiptText says for a person what a change came to.
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
		text += fmt.Sprintf("Connections: %s.\n", f)
	}
	if r.Coalesced > 0 {
		text += fmt.Sprintf("It answered %s that came meanwhile.\n", plural(r.Coalesced, "further request", "further requests"))
	}
	return text
}

// fate says what became of the connections that a change met, "" if it met none.
func fate(r *control.Receipt) string {
	var parts []string
	for _, c := range []struct {
		n    uint64
		text string
	}{{r.HandedOver, "handed over"}, {r.Finished, "finished"}, {r.Cut, "cut"}} {
		if c.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", c.n, c.text))
		}
	}
	return strings.Join(parts, ", ")
}

// milliseconds is a duration with as many digits as a person reads.
func milliseconds(ms float64) string {
	d := time.Duration(ms * float64(time.Millisecond))
	if d < 10*time.Millisecond {
		return d.Round(100 * time.Microsecond).String()
	}
	return d.Round(time.Millisecond).String()
}

// short is how much of a hash a person needs.
func short(sha256 string) string { return sha256[:min(8, len(sha256))] }
