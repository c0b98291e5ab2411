package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"reuseportd/internal/control"
)

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// progressEvery is how often the master is asked for the progress.
const progressEvery = 100 * time.Millisecond

// showProgress prints the progress of the change to standard error, a line for each step,
// until stop is called.
func (c *cli) showProgress() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(progressEvery)
		defer tick.Stop()
		last := ""
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			resp, err := c.askOnce(ctx, control.Request{Command: "status"})
			if err != nil || resp.Status == nil {
				continue // one master is replaced by the next
			}
			if text := progressText(resp.Status); text != "" && text != last {
				last = text
				fmt.Fprintf(c.err, "  %s\n", text)
			}
		}
	}()
	return func() { cancel(); <-ended }
}

// progressText returns what is in progress, "" if nothing is.
func progressText(st *control.Status) string {
	if st.Change != "" {
		return st.Progress
	}
	for _, g := range st.Groups {
		if g.State != "draining" {
			continue
		}
		open := uint64(0)
		for _, w := range g.Workers {
			open += w.Connections
		}
		return fmt.Sprintf("generation %d drains: %s left", g.ID, plural(int(open), "connection", "connections"))
	}
	return ""
}
