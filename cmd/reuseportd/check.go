package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"reuseportd/internal/config"
	"reuseportd/internal/material"
)

// checkCmd is `reuseportd check`.
type checkCmd struct {
	Config filePath `short:"c" required:"" placeholder:"FILE" help:"Configuration file."`
	JSON   bool     `help:"Print JSON."`
}

// verdict is what `check --json` prints.
type verdict struct {
	OK      bool   `json:"ok"`
	Error   string `json:"error"`
	SHA256  string `json:"sha256"`
	Workers int    `json:"workers"`
	Threads int    `json:"threads"`
	// User is the user that workers run as, "" if the master's. Untried says that access
	// wasn't tried as that user, which only root can do.
	User      string           `json:"user"`
	Untried   bool             `json:"untried"`
	Listeners []listenerChoice `json:"listeners"`
	Warnings  []string         `json:"warnings"`
}

type listenerChoice struct {
	Name    string `json:"name"`
	Network string `json:"network"`
	Address string `json:"address"`
	Service string `json:"service"`
	Accept  string `json:"accept"`
	// Steering is "" if there is nothing to choose among.
	Steering string `json:"steering"`
}

// Run validates a configuration and says what it would serve.
func (k *checkCmd) Run(c *cli) error {
	conf, err := config.Load(string(k.Config))
	if err == nil {
		err = readMaterials(conf, c.err)
	}
	switch {
	case k.JSON:
		if err := printJSON(c.out, judge(conf, err)); err != nil {
			return err
		}
	case err != nil:
		fmt.Fprintln(c.err, err)
	default:
		printChecked(c.out, string(k.Config), judge(conf, nil))
	}
	if err != nil {
		return statusError(exitFailed)
	}
	return nil
}

// readMaterials reads what the configuration names, as a master would.
func readMaterials(conf *config.Config, notes io.Writer) error {
	var bad []error
	for _, m := range conf.Materials() {
		w := material.Want{Kind: material.Kind(m.Kind), Paths: m.Paths}
		r := w.Load(conf.Credential.SandboxUser())
		if r.Err != nil {
			bad = append(bad, conf.At(m.Pos, r.Err))
		}
		for _, n := range r.Notes {
			fmt.Fprintf(notes, "warning: %s\n", n)
		}
	}
	return errors.Join(bad...)
}

// judge summarizes what config.Load returned.
func judge(conf *config.Config, err error) verdict {
	v := verdict{OK: err == nil, Listeners: []listenerChoice{}, Warnings: []string{}}
	if err != nil {
		v.Error = err.Error()
		return v
	}
	v.SHA256, v.Workers, v.Threads = conf.SHA256, conf.Workers, conf.Threads
	if conf.Credential != nil {
		v.User = conf.Credential.String()
	}
	v.Untried = conf.Credential == nil && conf.Reaches()
	for _, w := range conf.Warnings {
		v.Warnings = append(v.Warnings, strings.TrimSuffix(w.Text(), "\n"))
	}
	for i := range conf.Listeners {
		l := &conf.Listeners[i]
		choice := listenerChoice{
			Name: l.Name, Network: l.Network, Address: l.Address, Service: l.Service(), Accept: string(l.Accept),
		}
		if l.Accept == config.AcceptReuseport {
			choice.Steering = string(l.Steering)
		}
		v.Listeners = append(v.Listeners, choice)
	}
	return v
}

// printChecked prints what would be served, for a person.
func printChecked(w io.Writer, path string, v verdict) {
	fmt.Fprintf(w, "%s (%s) is valid: %s, %s in each\n", path, short(v.SHA256),
		plural(v.Workers, "worker", "workers"), plural(v.Threads, "event loop", "event loops"))
	table(w, func(t io.Writer) {
		for _, l := range v.Listeners {
			how := l.Accept
			if l.Steering != "" && l.Steering != string(config.SteerHash) {
				how += ", steering by " + l.Steering
			}
			fmt.Fprintf(t, "  %s\t%s\t%s\t%s\n", l.Name, l.Service, l.Address, how)
		}
	})
	if v.User != "" {
		fmt.Fprintf(w, "workers run as %s\n", v.User)
	}
	if v.Untried {
		fmt.Fprintln(w, "not tried: whether workers reach the roots and the Unix sockets of servers; as root, check tries it as their user")
	}
	for _, text := range v.Warnings {
		fmt.Fprintf(w, "warning: %s\n", text)
	}
}
