package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"time"

	"reuseportd/internal/control"
)

// ask puts one request to the running master. A master that has just been
// replaced says so, and the next one is asked.
func (c *cli) ask(req control.Request) (control.Response, error) {
	const tries = 20
	for i := 0; ; i++ {
		resp, err := c.askOnce(req)
		var refused *control.RefusedError
		if !errors.As(err, &refused) || refused.Text != control.ErrSuperseded || i == tries {
			return resp, err
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func (c *cli) askOnce(req control.Request) (control.Response, error) {
	client, err := control.Dial(string(c.RuntimeDir), c.UnsafeRuntimeDir)
	if err != nil {
		return control.Response{}, err
	}
	defer client.Close()
	req.Cause = "command"
	return client.Do(context.Background(), req)
}

func isNoMaster(err error) bool { return errors.Is(err, control.ErrNoMaster) }

func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}
