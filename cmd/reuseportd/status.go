package main

import (
	"bytes"
	"fmt"
	"io"
	"math/bits"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"golang.org/x/sys/unix"

	"reuseportd/internal/control"
)

type statusCmd struct {
	JSON bool `help:"Print JSON."`
}

// Run shows the service's state.
func (s *statusCmd) Run(c *cli) error {
	resp, err := c.ask(control.Request{Command: "status"})
	if err != nil {
		return err
	}
	if resp.Status == nil {
		return fmt.Errorf("status: the master's answer has no status")
	}
	if s.JSON {
		return printJSON(c.out, resp.Status)
	}
	printStatus(c.out, resp.Status, time.Now())
	return nil
}

// printStatus writes the status for a person.
func printStatus(w io.Writer, st *control.Status, now time.Time) {
	fmt.Fprintf(w, "reuseportd %s, PID %d, up %s\n", st.Version, st.PID, ago(st.Started, now))
	conf := st.Config.Path
	if conf == "" {
		conf = "built in"
	}
	fmt.Fprintf(w, "generation %d serves; configuration %s (%s), loaded %s ago; %d descriptors a process\n",
		st.Generation, conf, short(st.Config.SHA256), ago(st.Config.Loaded, now), st.NoFile)
	if st.Change != "" {
		fmt.Fprintf(w, "in progress: %s", st.Change)
		if st.Progress != "" {
			fmt.Fprintf(w, ": %s", st.Progress)
		}
		fmt.Fprintln(w)
	}
	printRuntimeDir(w, st.RuntimeDir, now)
	printLog(w, st.Log, now)
	for _, what := range st.Waiting {
		fmt.Fprintf(w, "WAITING: %s\n", what)
	}
	if st.Config.Error != "" {
		fmt.Fprintf(w, "REFUSED: what the configuration file has now\n%s\n", indent(st.Config.Error))
	}
	printMaterials(w, st.Materials, now)
	fmt.Fprintln(w)
	printListeners(w, st)
	printUpstreams(w, st.Upstreams, now)
	fmt.Fprintln(w)
	printWorkers(w, st, now)
	printSandbox(w, st)
	printTotals(w, &st.Totals)
	if r := st.LastChange; r != nil {
		outcome := "done"
		if !r.OK {
			outcome = "FAILED"
		}
		fmt.Fprintf(w, "\nlast change: %s %s ago (cause: %s), %s in %s", r.Action, ago(r.Started, now), r.Cause, outcome, milliseconds(r.ReadyMS))
		if f := fate(r); f != "" {
			fmt.Fprintf(w, "; connections: %s", f)
		}
		fmt.Fprintln(w)
		if r.Error != "" {
			fmt.Fprintln(w, indent(r.Error))
		}
		if r.Undone != "" {
			fmt.Fprintln(w, indent("UNDONE since: "+r.Undone))
		}
	}
}

// printMaterials prints which contents of materials are in use, and what is wrong with
// them.
func printMaterials(w io.Writer, all []control.Material, now time.Time) {
	for _, m := range all {
		fmt.Fprintf(w, "%s %s: %s, for %s", m.Kind, strings.Join(m.Files, " and "), short(m.SHA256), ago(m.Since, now))
		if m.Expires != nil {
			fmt.Fprintf(w, "; expires %s", m.Expires.UTC().Format("2006-01-02"))
		}
		if m.Behind > 0 {
			fmt.Fprintf(w, "; %s not taken it yet", plural(m.Behind, "worker has", "workers have"))
		}
		fmt.Fprintln(w)
		if m.Error != "" {
			fmt.Fprintf(w, "BAD what is there for %s, and what was there before serves on:\n%s\n", ago(*m.ErrorSince, now), indent(m.Error))
		}
	}
}

// printRuntimeDir prints what is unusual about the runtime directory.
func printRuntimeDir(w io.Writer, d *control.RuntimeDir, now time.Time) {
	if d == nil { // a master of an older release
		return
	}
	if d.Unsafe {
		fmt.Fprintf(w, "UNSAFE runtime directory %s: it is used unchecked (--unsafe-runtime-dir)\n", d.Path)
	}
	if d.RemadeAt != nil {
		fmt.Fprintf(w, "made anew %s ago in the runtime directory, where somebody had removed it: %s\n", ago(*d.RemadeAt, now), d.Remade)
	}
	if d.Problem != "" {
		fmt.Fprintf(w, "LOST in the runtime directory: %s\n", d.Problem)
	}
}

// printLog prints what is unusual about the master's log.
func printLog(w io.Writer, l *control.Log, now time.Time) {
	if l == nil { // a master of an older release
		return
	}
	if l.Stalled != nil {
		fmt.Fprintf(w, "STALLED log: the master's lines have waited for %s; what reads them has stopped, or the file system does not answer\n", ago(*l.Stalled, now))
	}
	if l.Dropped > 0 {
		fmt.Fprintf(w, "lines of the master's log that were dropped: %d\n", l.Dropped)
	}
}

func printListeners(w io.Writer, st *control.Status) {
	table(w, func(t io.Writer) {
		fmt.Fprintln(t, "LISTENER\tADDRESS\tSERVICE\tACCEPT\tSTEERING\tSHARDS\tQUEUED")
		for _, l := range st.Listeners {
			name, shards, steering := l.Name, fmt.Sprint(l.Shards), l.Steering
			if name == "" {
				name = "(removed)"
			}
			if steering == "" {
				steering = "-"
			}
			if l.Retiring > 0 {
				shards += fmt.Sprintf(", %d retiring", l.Retiring)
			}
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%d\n", name, l.Address, service(&l), l.Accept, steering, shards, l.Queued)
		}
	})
	for _, l := range st.Listeners {
		if l.SteeringNote != "" {
			fmt.Fprintf(w, "%s is steered by %s and not as configured: %s\n", l.Name, l.Steering, l.SteeringNote)
		}
	}
	for _, l := range st.Listeners {
		if l.Problem != "" {
			fmt.Fprintf(w, "%s has LOST %s: %s\n", l.Name, l.Address, l.Problem)
		}
		for _, o := range l.Others {
			how := "NOT ALONE at"
			if o.Shared {
				how = "sharing"
			}
			fmt.Fprintf(w, "%s is %s %s: %s\n", l.Name, how, l.Address, other(o))
		}
	}
}

// service returns what a listener does, in words.
func service(l *control.Listener) string {
	if l.TLS {
		return l.Service + ", TLS"
	}
	return l.Service
}

// other names a process of another service that listens at an address of this one.
func other(o control.Other) string {
	who := fmt.Sprintf("a process that can't be seen from here (uid %d, socket inode %d)", o.UID, o.Inode)
	if o.PID != 0 {
		who = strings.TrimSuffix(fmt.Sprintf("PID %d (uid %d, %s", o.PID, o.UID, o.Command), ", ") + ")"
	}
	return who + " listens at " + o.Address
}

func printWorkers(w io.Writer, st *control.Status, now time.Time) {
	table(w, func(t io.Writer) {
		fmt.Fprintln(t, "GENERATION\tSLOT\tPID\tSTATE\tFOR\tCONNECTIONS\tACCEPTED\tREQUESTS\tNOTE")
		for _, g := range st.Groups {
			for _, k := range g.Workers {
				slot, pid := fmt.Sprint(k.Slot), "-"
				if k.Slots > 1 {
					slot += fmt.Sprintf("-%d", k.Slot+k.Slots-1)
				}
				if k.PID != 0 {
					pid = fmt.Sprint(k.PID)
				}
				fmt.Fprintf(t, "%d\t%s\t%s\t%s\t%s\t%d\t%d\t%d\t%s\n", g.ID, slot, pid, k.State,
					ago(k.Since, now), k.Connections, k.Accepted, k.Requests, note(&g, &k, now))
			}
		}
	})
}

// printSandbox prints how workers are confined, once for all that are confined alike.
func printSandbox(w io.Writer, st *control.Status) {
	perKind(w, st, func(k *control.Worker) string {
		if k.Sandbox == nil {
			return ""
		}
		return confinement(k.Sandbox)
	})
	perKind(w, st, func(k *control.Worker) string {
		if k.MaxMemory == 0 {
			return ""
		}
		return fmt.Sprintf("at most %s of memory each", mebibytes(k.MaxMemory))
	})
}

// perKind prints what of returns for each worker, once for all with the same text.
func perKind(w io.Writer, st *control.Status, of func(*control.Worker) string) {
	var kinds []string
	pids := make(map[string][]string)
	for _, g := range st.Groups {
		for i := range g.Workers {
			k := &g.Workers[i]
			text := of(k)
			if text == "" {
				continue
			}
			if pids[text] == nil {
				kinds = append(kinds, text)
			}
			pids[text] = append(pids[text], fmt.Sprint(k.PID))
		}
	}
	for _, text := range kinds {
		which := "workers"
		if len(kinds) > 1 {
			which = "workers " + strings.Join(pids[text], ", ")
		}
		fmt.Fprintf(w, "%s: %s\n", which, text)
	}
}

// mebibytes returns a bound of memory in the form of its configuration key, rounded.
func mebibytes(n int64) string { return fmt.Sprintf("%dMiB", n>>20) }

// confinement returns how a worker is confined, in words.
func confinement(s *control.Sandbox) string {
	off := func(name string, on bool) string {
		if on {
			return name
		}
		return name + " OFF"
	}
	landlock := off("Landlock", s.Landlock > 0)
	if s.Landlock > 0 {
		landlock += fmt.Sprintf(" (ABI %d)", s.Landlock)
	}
	text := fmt.Sprintf("uid %d, gid %d, %s, %s, %s, %s", s.UID, s.GID, off("seccomp", s.Seccomp), landlock,
		off("no_new_privs", s.NoNewPrivs), bounding(s.Bounding))
	if s.Note != "" {
		text += "; " + s.Note
	}
	return text
}

// bounding returns a capability bounding set, given in hex, in words. Workers that run as root keep
// CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH; those of a master that isn't root have the full set.
func bounding(hex string) string {
	set, err := strconv.ParseUint(hex, 16, 64)
	switch {
	case err != nil:
		return "bounding set " + hex
	case set == 0:
		return "no capability can be had"
	case set == 1<<unix.CAP_DAC_OVERRIDE|1<<unix.CAP_DAC_READ_SEARCH:
		return "no capability can be had but DAC_OVERRIDE and DAC_READ_SEARCH"
	default:
		return fmt.Sprintf("%s in the bounding set", plural(bits.OnesCount64(set), "capability", "capabilities"))
	}
}

// table aligns the tab-separated lines that f writes, and leaves no blanks at
// their ends.
func table(w io.Writer, f func(io.Writer)) {
	var b bytes.Buffer
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	f(t)
	_ = t.Flush()
	for line := range strings.Lines(b.String()) {
		fmt.Fprintln(w, strings.TrimRight(line, " \n"))
	}
}

// note returns what is unusual about a worker.
func note(g *control.Generation, k *control.Worker, now time.Time) string {
	var notes []string
	if g.Deadline != nil {
		notes = append(notes, until(*g.Deadline, now)+" left to drain")
	}
	if k.RetryAt != nil {
		notes = append(notes, "started again in "+until(*k.RetryAt, now))
	}
	if k.Restarts > 0 {
		notes = append(notes, plural(k.Restarts, "restart", "restarts"))
	}
	if k.LastError != "" {
		notes = append(notes, strings.Join(strings.Fields(k.LastError), " "))
	}
	return strings.Join(notes, "; ")
}

// printTotals prints the counters. It leaves out those of problems that haven't occurred.
func printTotals(w io.Writer, t *control.Totals) {
	fmt.Fprintf(w, "\ntotals: %d accepted, %d requests, %d bytes in, %d bytes out, %d handed over, %d finished in a drain, %d cut\n",
		t.Accepted, t.Requests, t.BytesIn, t.BytesOut, t.HandedOver, t.Finished, t.Cut)
	for _, c := range []struct {
		n    uint64
		text string
	}{
		{t.AcceptPaused, "accepting paused at max_connections"},
		{t.AcceptNoFD, "accepting paused for want of descriptors"},
		{t.IdleClosed, "idle connections closed to make room for others"},
		{t.NoRoom, "connections to servers, and files, without a descriptor for them"},
		{t.Stayed, "connections not handed over, which ended with their old worker"},
		{t.Quiet, "echo, tcp and tunnel connections ended because nothing had moved"},
		{t.Slow, "connections ended because the client was slower than min_rate"},
		{t.AcceptErrors, "accepting failed"},
		{t.ShedHeads, "half requests ended for want of memory"},
		{t.ShedBodies, "requests and answers under way ended for want of memory"},
		{t.ShedIdle, "idle connections ended for want of memory"},
		{t.Handshakes, "TLS handshakes"},
		{t.Resumed, "of them resumed"},
		{t.ShakesFailed, "TLS handshakes failed"},
		{t.ShakesWaited, "TLS handshakes kept waiting"},
		{t.ClientRefused, "connections refused at max_connections_per_client"},
		{t.ClientUncounted, "connections served uncounted, past max_connections_per_client's table"},
		{t.Panics, "panics, each of which cost a connection"},
		{t.LogDropped, "lines of access logs and of the workers' log dropped"},
	} {
		if c.n > 0 {
			fmt.Fprintf(w, "  %s: %d\n", c.text, c.n)
		}
	}
}

// ago returns how long ago t was, for a person.
func ago(t, now time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return distance(now.Sub(t))
}

// until returns how far in the future t is, for a person.
func until(t, now time.Time) string { return distance(t.Sub(now)) }

// distance returns a duration for a person; a negative one, after a clock was set, counts
// as 0.
func distance(d time.Duration) string {
	if d = max(d, 0); d < 10*time.Second {
		return d.Round(100 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}

func indent(text string) string {
	return "  " + strings.ReplaceAll(strings.TrimRight(text, "\n"), "\n", "\n  ")
}
