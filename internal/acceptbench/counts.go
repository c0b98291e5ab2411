package acceptbench

import (
	"fmt"
	"time"

	"reuseportd/internal/control"
)

// Counts are what a server, or one of its workers, has counted.
type Counts struct {
	Accepted uint64 `json:"accepted"`
	Requests uint64 `json:"requests"`
	Empty    uint64 `json:"accept_empty"` // accepts that found no connection
	Failed   uint64 `json:"accept_failed"`
	Wakeups  uint64 `json:"wakeups"`
	Vain     uint64 `json:"wakeups_vain"`
}

// WorkerCounts are those of one worker. Slot is that of its first event loop.
type WorkerCounts struct {
	Slot int `json:"slot"`
	Counts
}

func (c *Counts) add(o Counts) {
	c.Accepted += o.Accepted
	c.Requests += o.Requests
	c.Empty += o.Empty
	c.Failed += o.Failed
	c.Wakeups += o.Wakeups
	c.Vain += o.Vain
}

func (c *Counts) sub(o Counts) {
	c.Accepted -= o.Accepted
	c.Requests -= o.Requests
	c.Empty -= o.Empty
	c.Failed -= o.Failed
	c.Wakeups -= o.Wakeups
	c.Vain -= o.Vain
}

// snapshot is what a server has counted until one moment.
type snapshot struct {
	at      time.Time
	pids    []int // master first
	workers []WorkerCounts
}

func snapshotOf(st *control.Status) snapshot {
	s := snapshot{at: time.Now(), pids: []int{st.PID}}
	for _, w := range serving(st) {
		s.pids = append(s.pids, w.PID)
		s.workers = append(s.workers, WorkerCounts{w.Slot, Counts{
			Accepted: w.Accepted, Requests: w.Requests, Empty: w.AcceptEmpty,
			Failed:  w.AcceptErrors + w.AcceptNoFD,
			Wakeups: w.Wakeups, Vain: w.WakeupsVain,
		}})
	}
	return s
}

func total(workers []WorkerCounts) (sum Counts) {
	for _, w := range workers {
		sum.add(w.Counts)
	}
	return sum
}

// since returns what each worker has counted since an earlier moment. It returns an error
// if they are not the same processes.
func (s snapshot) since(before snapshot) ([]WorkerCounts, error) {
	if len(s.pids) != len(before.pids) {
		return nil, fmt.Errorf("%d processes have become %d", len(before.pids), len(s.pids))
	}
	all := make([]WorkerCounts, len(s.workers))
	for i, w := range s.workers {
		if s.pids[i+1] != before.pids[i+1] {
			return nil, fmt.Errorf("worker %d has been replaced", before.pids[i+1])
		}
		w.sub(before.workers[i].Counts)
		all[i] = w
	}
	return all, nil
}
