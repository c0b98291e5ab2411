package main

import (
	"encoding/json"
	"fmt"

	"reuseportd/internal/config"
)

// checkCmd is `reuseportd check`.
type checkCmd struct {
	Config string `short:"c" required:"" placeholder:"FILE" help:"Configuration file."`
	JSON   bool   `help:"Print JSON."`
}

// Run validates a configuration and says what it would serve.
func (k *checkCmd) Run(c *cli) error {
	conf, err := config.Load(k.Config)
	if k.JSON {
		return k.json(c, conf, err)
	}
	if err != nil {
		fmt.Fprintln(c.err, err)
		return statusError(exitFailed)
	}
	fmt.Fprintf(c.out, "%s is valid: %s × %s\n", k.Config,
		plural(conf.Workers, "worker", "workers"), plural(conf.Threads, "event loop", "event loops"))
	for i := range conf.Listeners {
		l := &conf.Listeners[i]
		fmt.Fprintf(c.out, "  %s: %s on %s (%s)\n", l.Name, l.Service(), l.Address, l.Accept)
	}
	return nil
}

// json prints the verdict for a program.
func (k *checkCmd) json(c *cli, conf *config.Config, err error) error {
	out := struct {
		OK     bool   `json:"ok"`
		Error  string `json:"error"`
		SHA256 string `json:"sha256"`
	}{OK: err == nil}
	if err != nil {
		out.Error = err.Error()
	} else {
		out.SHA256 = conf.SHA256
	}
	enc := json.NewEncoder(c.out)
	enc.SetIndent("", "  ")
	if encErr := enc.Encode(out); encErr != nil {
		return encErr
	}
	if err != nil {
		return statusError(exitFailed)
	}
	return nil
}
