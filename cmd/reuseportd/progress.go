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

// progressEvery is how often the master is asked how far it is.
const progressEvery = 100 * time.Millisecond

// showProgress says on standard error how far the change in progress is, a line for
// each step, until the function that it returns is called.
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
				continue // one master goes, the next one comes
			}
			if text := progressText(resp.Status); text != "" && text != last {
				last = text
				fmt.Fprintf(c.err, "  %s\n", text)
			}
		}
	}()
	return func() { cancel(); <-ended }
}

// progressText is what goes on at the moment, "" when nothing does.
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
