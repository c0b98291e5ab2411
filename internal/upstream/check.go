package upstream

import (
	"context"
	"errors"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// check checks servers, each when it is due.
func (s *Set) check(ctx context.Context) {
	var all sync.WaitGroup
	defer all.Wait()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-s.changed:
		}
		next := s.checkDue(monotonic(), func(srv *Server) {
			all.Go(func() { srv.check(ctx) })
		})
		timer.Reset(time.Duration(next - monotonic()))
	}
}

// idle is how long the checks sleep if nothing is due, in nanoseconds.
const idle = int64(time.Minute)

// checkDue calls do with the servers that are due and that no other worker checks, and
// returns when the next one is due.
func (s *Set) checkDue(now int64, do func(*Server)) (next int64) {
	next = now + idle
	for _, p := range s.order {
		if p.conf.Check == nil {
			continue
		}
		for _, srv := range p.list.Load().servers {
			due, mine := srv.takeCheck(now)
			if mine {
				do(srv)
			}
			next = min(next, due)
		}
	}
	return next
}

// takeCheck advances the time of a server's next check if that is due. The worker that
// does so makes the check; if it dies or stops, another one makes the next.
func (s *Server) takeCheck(now int64) (next int64, mine bool) {
	every := int64(s.pool.conf.Check.Interval)
	at := &s.state.nextCheck
	due := at.Load()
	// A time far in the future is from a configuration with a longer interval.
	if due > now && due < now+2*every+int64(time.Second) {
		return due, false
	}
	next = now + every
	if due == 0 {
		// The first checks are all made at once, later ones are spread.
		next = now + every/2 + int64(s.hash%uint64(every/2+1))
	}
	if s.state.id.Load() != s.id {
		return next, false
	}
	return next, at.CompareAndSwap(due, next)
}

// check checks the server once.
func (s *Server) check(ctx context.Context) {
	timeout := s.pool.conf.Check.Timeout
	begun := monotonic()
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	err := s.probe(limited)
	now := monotonic()
	switch {
	case ctx.Err() != nil, s.state.id.Load() != s.id:
	case err == nil:
		s.checked(now, "")
	case ReasonOf(errnoOf(err)).Local():
		// A failure on this machine says nothing about the server.
	case now-begun > int64(timeout+time.Second):
		// This process was stopped meanwhile or had no CPU: that says nothing either.
	default:
		s.checked(now, whyFailed(err))
	}
}

// errnoOf returns the errno in err, 0 if there is none.
func errnoOf(err error) unix.Errno {
	var errno unix.Errno
	errors.As(err, &errno)
	return errno
}

// whyFailed returns what is wrong, in the words of Reason if there are any.
func whyFailed(err error) string {
	if errno := errnoOf(err); errno != 0 {
		if r := ReasonOf(errno); r != Other {
			return r.String()
		}
		return errno.Error()
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return AnswerTimeout.String()
	}
	return err.Error()
}
