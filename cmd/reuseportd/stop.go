package main

import (
	"fmt"
	"time"
)

type stopCmd struct {
	JSON bool `help:"Print the receipt as JSON."`
}

// Run asks the master to stop and waits until it has gone.
func (s *stopCmd) Run(c *cli) error {
	resp, err := c.ask("stop")
	if err != nil {
		return err
	}
	if s.JSON {
		return printJSON(c.out, resp.Receipt)
	}
	if r := resp.Receipt; r != nil {
		fmt.Fprintf(c.out, "stopped after %s: %s finished, %d cut\n", milliseconds(r.ReadyMS),
			plural(int(r.Finished), "open connection", "open connections"), r.Cut)
	}
	for range 500 { // its last steps: files removed, process ended
		if _, err := c.askOnce("status"); isNoMaster(err) {
			return nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	return fmt.Errorf("the master says that it has stopped, but it is still there")
}
