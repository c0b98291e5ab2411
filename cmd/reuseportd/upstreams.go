package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"reuseportd/internal/control"
)

// printUpstreams prints the servers to which connections and requests are passed on, if
// there are any.
func printUpstreams(w io.Writer, all []control.Upstream, now time.Time) {
	if len(all) == 0 {
		return
	}
	fmt.Fprintln(w)
	table(w, func(t io.Writer) {
		fmt.Fprintln(t, "UPSTREAM\tSERVER\tSTATE\tFOR\tIN USE\tSESSIONS\tNOTE")
		for _, u := range all {
			for _, s := range u.Servers {
				address, since, inUse := s.Address, "-", fmt.Sprint(s.InUse)
				if address == "" {
					address = s.Name
				}
				if s.Since != nil {
					since = ago(*s.Since, now)
				}
				if s.MaxConnections > 0 {
					inUse += fmt.Sprintf("/%d", s.MaxConnections)
				}
				fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%d\t%s\n", u.Name, address, s.State, since, inUse, s.Sessions, serverNote(&s, now))
			}
		}
	})
	for _, u := range all {
		if note := upstreamNote(&u); note != "" {
			fmt.Fprintf(w, "%s: %s\n", u.Name, note)
		}
	}
}

// serverNote returns what is unusual about a server.
func serverNote(s *control.Server, now time.Time) string {
	var notes []string
	add := func(n uint64, text string) {
		if n > 0 {
			notes = append(notes, fmt.Sprintf(text, n))
		}
	}
	if s.Until != nil {
		what := "used again in "
		if s.State == "slow start" {
			what = "all of its weight in "
		}
		notes = append(notes, what+until(*s.Until, now))
	}
	if s.Backup {
		notes = append(notes, "backup")
	}
	if s.Weight != 1 {
		add(uint64(s.Weight), "weight %d")
	}
	if s.Name != "" && s.Address != "" {
		notes = append(notes, "of "+s.Name)
	}
	for _, reason := range slices.Sorted(maps.Keys(s.Failures)) {
		add(s.Failures[reason], reason+" %d×")
	}
	add(s.Ejections, "ejected %d×")
	add(s.Full, "full %d×")
	if s.ChecksFailed > 0 {
		notes = append(notes, fmt.Sprintf("%d of %d checks failed", s.ChecksFailed, s.ChecksOK+s.ChecksFailed))
	}
	return strings.Join(notes, "; ")
}

// upstreamNote returns what is unusual about an upstream as a whole.
func upstreamNote(u *control.Upstream) string {
	var notes []string
	for _, c := range []struct {
		n    uint64
		text string
	}{
		{u.TurnedAway, "turned away for want of a server"},
		{u.Retries, "tried again on another server"},
		{u.DNSFailures, "lookups failed"},
	} {
		if c.n > 0 {
			notes = append(notes, fmt.Sprintf("%d %s", c.n, c.text))
		}
	}
	return strings.Join(notes, ", ")
}
