package meter

import (
	"fmt"
	"io"
	"sort"
	"strings"
	"text/tabwriter"
	"time"
)

// Result is the account of a measurement.
type Result struct {
	Duration time.Duration
	Kinds    []Summary
	Losses   []Loss // in detail, a bounded number of each kind
	// SynRetrans is TcpExtTCPSynRetrans after less before. The kernel counts it
	// for the whole network namespace, so other programs' connects are in it.
	SynRetrans uint64
	Seed       uint64
}

// Summary is the account of one kind of client.
type Summary struct {
	Kind        Kind
	Connections uint64
	Requests    uint64 // answered wholly and rightly; of stream, whole streams
	Ended       uint64 // connections ended by an answer with Connection: close
	// Unanswered requests had been pipelined behind one whose answer said
	// Connection: close. The server has not processed them (RFC 9112 section
	// 9.6) and they were sent again on a new connection, so they are not lost.
	Unanswered uint64
	Bytes      uint64 // echoed or downloaded
	Lost       uint64

	P50, P99, Max  time.Duration // of an answer; of stream, of a chunk's echo
	SlowestConnect time.Duration
	SlowConnects   uint64 // that took as long as a SYN sent again: not losses
}

// Lost is the number of losses of all kinds.
func (r *Result) Lost() int {
	var n uint64
	for _, s := range r.Kinds {
		n += s.Lost
	}
	return int(n)
}

// Kind gives the account of one kind, zero if there were no such clients.
func (r *Result) Kind(k Kind) Summary {
	for _, s := range r.Kinds {
		if s.Kind == k {
			return s
		}
	}
	return Summary{Kind: k}
}

// SlowestConnect returns the slowest connect of all kinds.
func (r *Result) SlowestConnect() time.Duration {
	var d time.Duration
	for _, s := range r.Kinds {
		d = max(d, s.SlowestConnect)
	}
	return d
}

// String returns the report that Print writes, with up to ten losses.
func (r *Result) String() string {
	var b strings.Builder
	r.Print(&b, 10)
	return b.String()
}

// Print writes a table of all kinds and the first losses by time.
func (r *Result) Print(w io.Writer, losses int) {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(tw, "kind\tconnections\trequests\tended\tunanswered\tlost\tp50\tp99\tmax\tslowest connect\t≥0.9s\t")
	for _, s := range r.Kinds {
		fmt.Fprintf(tw, "%s\t%d\t%d\t%d\t%d\t%d\t%v\t%v\t%v\t%v\t%d\t\n",
			s.Kind, s.Connections, s.Requests, s.Ended, s.Unanswered, s.Lost,
			round(s.P50), round(s.P99), round(s.Max), round(s.SlowestConnect), s.SlowConnects)
	}
	_ = tw.Flush() // to a terminal or a buffer: nobody to tell
	fmt.Fprintf(w, "lost %d in %.1fs; SYNs sent again on this machine: %d; seed %d\n",
		r.Lost(), r.Duration.Seconds(), r.SynRetrans, r.Seed)

	sort.SliceStable(r.Losses, func(i, j int) bool { return r.Losses[i].Time.Before(r.Losses[j].Time) })
	for i, l := range r.Losses {
		if i == losses {
			fmt.Fprintf(w, "  … %d more\n", r.Lost()-losses)
			break
		}
		fmt.Fprintln(w, " ", l)
	}
}

func round(d time.Duration) time.Duration {
	if d > 10*time.Millisecond {
		return d.Round(time.Millisecond)
	}
	return d.Round(10 * time.Microsecond)
}
