package upgrade

import (
	"context"
	"fmt"
	"strings"
	"time"

	"reuseportd/internal/config"
	"reuseportd/internal/lifecycle"
	"reuseportd/internal/material"
	"reuseportd/internal/sandbox"
)

// An errand (lifecycle.Errand) may wait for a file system that doesn't answer: a goroutine of its own does it.

const (
	// mostErrands bounds the errands that are under way, each of which may hold a thread.
	mostErrands = 64
	// mostPatient bounds those among them of which there may be hundreds, one for each worker: the others wait for
	// their turn.
	mostPatient = 16
	// mostAlike bounds those of one kind: the second one may succeed where the first one waits for ever for
	// what was mounted at the path before.
	mostAlike = 2
)

// underWay is an errand that was asked for.
type underWay struct {
	begin func()    // of one that waits for its turn, else nil
	since time.Time // when it began
	told  bool      // the log has said that it takes long
}

// errands are those under way, and those that wait for their turn. They are the coordinator's goroutine's.
type errands map[*lifecycle.Errand]*underWay

// admit begins one more, now or when there is room, or reports why it can't begin.
func (es errands) admit(e *lifecycle.Errand, begin func()) error {
	alike, busy, patient := 0, 0, 0
	for other, u := range es {
		if u.begin != nil && !other.Wanted() {
			delete(es, other)
			continue
		}
		if other.Kind() == e.Kind() {
			alike++
		}
		if u.begin == nil {
			busy++
			if other.Patient() {
				patient++
			}
		}
	}
	switch {
	case alike >= mostAlike, !e.Patient() && busy >= mostErrands:
		return fmt.Errorf("still %s, %d earlier attempts among %d errands: %w", e, alike, busy, sandbox.ErrNoAnswer)
	case e.Patient() && patient >= mostPatient:
		es[e] = &underWay{begin: begin}
	default:
		es[e] = &underWay{since: time.Now()}
		begin()
	}
	return nil
}

// done forgets one that is over, and begins the one that has waited longest. It returns how long it took, if the log has
// told of it, else 0.
func (es errands) done(e *lifecycle.Errand) (told time.Duration) {
	if u := es[e]; u != nil && u.told {
		told = time.Since(u.since)
	}
	delete(es, e)
	if !e.Patient() {
		return told
	}
	var next *lifecycle.Errand
	for other, u := range es {
		switch {
		case u.begin == nil:
		case !other.Wanted():
			delete(es, other)
		case next == nil || other.Began().Before(next.Began()):
			next = other
		}
	}
	if next != nil {
		begin := es[next].begin
		es[next] = &underWay{since: time.Now()}
		begin()
	}
	return told
}

// run begins an errand. then is called in a turn of the coordinator's, never before run has returned; but not of one that
// is not wanted before it has begun.
func run[T any](co *coordinator, e *lifecycle.Errand, work func() (T, error), then func(T, error)) {
	begin := func() {
		go func() {
			v, err := work()
			co.post(func() {
				if took := co.errands.done(e); took > 0 {
					co.log.Info().Dur("after", took).Msgf("done with %s: the file system has answered", e)
				}
				then(v, err)
			})
		}()
	}
	if err := co.errands.admit(e, begin); err != nil {
		go co.post(func() {
			var none T
			then(none, err)
		})
	}
}

// tellSlow has the log say what takes long, once.
func (co *coordinator) tellSlow() {
	for e, u := range co.errands {
		if u.begin == nil && !u.told && time.Since(u.since) >= lifecycle.Slow {
			u.told = true
			co.log.Warn().Msgf("still %s: %v; everything else goes on", e, sandbox.ErrNoAnswer)
		}
	}
}

// waiting is what `status` says of errands that take long.
func (co *coordinator) waiting() []string {
	var all []string
	for e, u := range co.errands {
		if u.begin != nil {
			continue
		}
		if age := time.Since(u.since); age >= lifecycle.Slow/2 {
			all = append(all, fmt.Sprintf("%s, for %s", e, age.Round(100*time.Millisecond)))
		}
	}
	return all
}

// doErrand does one of the core's.
func (co *coordinator) doErrand(a lifecycle.Action) {
	switch a := a.(type) {
	case lifecycle.Load:
		path := co.opts.ConfigPath
		a.Errand.At("reading " + path + " and looking at what it names")
		runFor(co, a.Errand, func() (*config.Config, error) { return load(path) })
	case lifecycle.OpenLogs:
		runFor(co, a.Errand, func() (lifecycle.Logs, error) { return openLogs(a.Errand, a.Conf) })
	case lifecycle.ReadMaterials:
		user, wants := a.Conf.Credential.SandboxUser(), lifecycle.WantsOf(a.Conf)
		runFor(co, a.Errand, func() ([]material.Read, error) {
			reads := make([]material.Read, len(wants))
			for i, w := range wants {
				a.Errand.At("reading " + strings.Join(w.Paths, " and "))
				reads[i] = w.Load(user)
			}
			return reads, nil
		})
	case lifecycle.Prepare:
		runFor(co, a.Errand, func() (*sandbox.Confinement, error) {
			_ = touch("/proc/self/exe")
			return confinement(a.Conf)
		})
	case lifecycle.Touch:
		path, followed := nextBinary(a.Back), error(nil)
		if !a.Force {
			followed = co.unfollowed()
		}
		runFor(co, a.Errand, func() (struct{}, error) {
			if followed == nil {
				_ = touch(path) // if it can't be read, it may be executed nevertheless
			}
			return struct{}{}, followed
		})
	}
}

// runFor begins an errand whose end the core is told.
func runFor[T any](co *coordinator, e *lifecycle.Errand, work func() (T, error)) {
	run(co, e, work, func(v T, err error) { co.handle(lifecycle.Done{Errand: e, Value: v, Err: err}) })
}

// watchMaterials has these files looked at, and no others.
func (co *coordinator) watchMaterials(paths []string) {
	if co.fileWatcher == nil {
		if len(paths) == 0 {
			return
		}
		ctx, cancel := context.WithCancel(context.Background())
		co.unwatchFiles = cancel
		co.fileWatcher = material.Watch(ctx, func() {
			co.post(func() { co.handle(lifecycle.MaterialsChanged{}) })
		})
	}
	co.fileWatcher.Set(paths)
}
