package upgrade

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"reuseportd/internal/config"
	"reuseportd/internal/logging"
	"reuseportd/internal/sandbox"
)

// What a master reads before it has anything to serve with.

// patienceEnv names the variable that tells a next master how long the old one waits for it.
const patienceEnv = "REUSEPORTD_PATIENCE"

// logPatience bounds how long a next master waits for the log's file system.
const logPatience = 2 * time.Second

// errAskedToEnd is why a master ends that was asked to before it served.
var errAskedToEnd = errors.New("asked to end before it served")

// within returns what f does, or ErrNoAnswer if that takes too long; 0 is no bound. A signal to end ends the wait. drop
// is called with what comes late.
func within[T any](limit time.Duration, signals <-chan os.Signal, f func() (T, error), drop func(T)) (T, error) {
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	go func() {
		v, err := f()
		done <- result{v, err}
	}()
	late := func(err error) (T, error) {
		go func() {
			if r := <-done; drop != nil && r.err == nil {
				drop(r.value)
			}
		}()
		var none T
		return none, err
	}
	var timeout <-chan time.Time
	if limit > 0 {
		timeout = time.After(limit)
	}
	for {
		select {
		case r := <-done:
			return r.value, r.err
		case <-timeout:
			return late(fmt.Errorf("still at it after %s: %w", limit, sandbox.ErrNoAnswer))
		case sig := <-signals:
			if sig == unix.SIGTERM || sig == unix.SIGINT || sig == unix.SIGQUIT {
				return late(errAskedToEnd)
			}
		}
	}
}

// loadFirst reads the configuration that a master begins with. A next master doesn't wait for it until the old one
// gives it up, but says before what it waits for.
func loadFirst(path string, signals <-chan os.Signal) (*config.Config, error) {
	patience, _ := time.ParseDuration(os.Getenv(patienceEnv)) // 0 is no bound
	_ = os.Unsetenv(patienceEnv)
	conf, err := within(patience/2, signals, func() (*config.Config, error) { return load(path) }, nil)
	if errors.Is(err, sandbox.ErrNoAnswer) || errors.Is(err, errAskedToEnd) {
		err = fmt.Errorf("read %s: %w", path, err)
	}
	return conf, err
}

// joinLog has a next master write to the configured log from the beginning, as the service has one. Should
// that not be possible, the standard error stream takes what it has to say.
func (co *coordinator) joinLog(conf *config.Config) {
	if conf == nil {
		return
	}
	if conf.Log.File == "" {
		co.setLog(logging.Stderr(), conf.Log)
		return
	}
	type opened struct {
		f  *os.File
		id logging.File
	}
	o, err := within(logPatience, nil, func() (opened, error) {
		f, err := openLog(conf.Log.File)
		if err != nil {
			return opened{}, err
		}
		return opened{f, identify(f)}, nil
	}, func(o opened) { _ = o.f.Close() })
	if err != nil {
		co.log.Warn().Err(err).Str("file", conf.Log.File).Msg("the log can't be joined yet")
		return
	}
	defer func() { go o.f.Close() }()
	if co.out.Is(o.id) {
		return
	}
	fd, err := unix.FcntlInt(o.f.Fd(), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		co.log.Warn().Err(err).Str("file", conf.Log.File).Msg("the log can't be joined yet")
		return
	}
	co.setLog(logging.NewOutput(fd, o.id), conf.Log)
}
