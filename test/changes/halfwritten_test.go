package changes

import (
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"reuseportd/internal/control"
	"reuseportd/test/harness"
	"reuseportd/test/kit"
	"reuseportd/test/meter"
)

// linePause is the pace of a writer that is slower than a watcher's debouncing.
const linePause = 150 * time.Millisecond

// writeLines writes a text in place, a line at a time: by one open file, or each by its own. It returns
// the longest pause that it really made.
func writeLines(t *testing.T, path, text string, keepOpen bool) time.Duration {
	t.Helper()
	kit.Must(t, os.Truncate(path, 0))
	var longest time.Duration
	var f *os.File
	last := time.Now()
	for _, line := range strings.SplitAfter(text, "\n") {
		if f == nil {
			var err error
			f, err = os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
			kit.Must(t, err)
		}
		_, err := f.WriteString(line)
		kit.Must(t, err)
		if !keepOpen {
			kit.Must(t, f.Close())
			f = nil
		}
		time.Sleep(linePause) // it is what is tried
		longest, last = max(longest, time.Since(last)), time.Now()
	}
	if f != nil {
		kit.Must(t, f.Close())
	}
	return longest
}

// An editor or a script writes the file in place: its beginnings are valid and lack listeners. None of
// them is taken, and nobody loses anything.
func TestHalfWrittenIsNotServed(t *testing.T) {
	for name, keepOpen := range map[string]bool{"one open file": true, "a line at a time": false} {
		t.Run(name, func(t *testing.T) {
			c := harness.Default(t)
			c.Top = nil // watching is the default
			s := harness.Start(t, c)
			more := harness.Answer("more", harness.Local(t), "more")
			kit.LosingNothing(t, kit.Clients(c), func(m *meter.Meter) {
				next := c.WithListeners(append(c.Listeners[:2:2], more)...)
				m.Mark("written in place: %s", name)
				if pause := writeLines(t, s.ConfigPath, next.String(), keepOpen); !keepOpen && pause > time.Second {
					t.Skipf("the machine is too busy: it held up the writer for %s, and nobody knows then that it goes on", pause)
				}
				s.Wait("the whole file to be served", func() bool { return kit.Body(more.Address) == "more\n" })
			})
			if st := waitQuiet(s, 2); st.Generation != 2 {
				t.Errorf("generation %d: beginnings of the file were taken, too", st.Generation)
			}
		})
	}
}

// A file is truncated and nothing comes: it is never taken, and what is asked for by hand is refused.
func TestTruncatedFile(t *testing.T) {
	c := harness.Default(t)
	c.Top = nil
	s := harness.Start(t, c)
	kit.Must(t, os.Truncate(s.ConfigPath, 0))
	if r := s.Change("reload"); r.OK || !strings.Contains(r.Error, "the file holds no configuration") {
		t.Errorf("receipt %+v", r)
	}
	if got := kit.Body(c.Address("web")); got != "hello\n" {
		t.Errorf("answer %q", got)
	}
}

// Who asks for a reload gets it. If it takes a listener away, and the file may be half written, it says so.
func TestReloadOfHalfAFileIsSaid(t *testing.T) {
	c := harness.Default(t)
	s := harness.Start(t, c)
	half := c.WithListeners(c.Listeners[0]).String()
	inPlace := func(text string) {
		kit.Must(t, os.WriteFile(s.ConfigPath, []byte(text), 0o644))
		later := time.Now().Add(time.Hour)
		kit.Must(t, os.Chtimes(s.ConfigPath, later, later)) // a moment ago, however slow this machine is
	}
	says := "listener echo (" + c.Address("echo") + ") is taken away, and the file was written in place"

	inPlace(half)
	if r := s.Change("reload"); !r.OK || !strings.Contains(r.Notice, says) {
		t.Errorf("a command: %+v", r)
	}
	if run := s.CLI("reload"); strings.Contains(run.Stdout, "taken away") {
		t.Errorf("nothing is taken away: %s", run.Stdout)
	}
	s.WriteConfig(c)
	s.Reload()

	inPlace(half)
	s.Signal(syscall.SIGHUP)
	s.WaitStatus("the signal's reload", func(st *control.Status) bool {
		return st.LastChange.Cause == "signal" && strings.Contains(st.LastChange.Notice, says)
	})
	s.WriteConfig(c)
	s.Reload()

	s.WriteConfigText(half) // by a rename
	before := time.Now().Add(-time.Second)
	kit.Must(t, os.Chtimes(s.ConfigPath, before, before)) // the rename is later, also by a coarse clock
	if r := s.Change("reload"); !r.OK || r.Notice != "" {
		t.Errorf("a renamed file: %+v", r)
	}

	s.WriteConfig(c)
	s.Reload()
	inPlace(half)
	if r := s.Change("upgrade"); !r.OK || !strings.Contains(r.Notice, says) {
		t.Errorf("an upgrade: %+v", r)
	}
}
