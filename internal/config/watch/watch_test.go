package watch

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fsnotify/fsnotify"
	"go.uber.org/goleak"
)

// long is for what must not decide a test: it ends a failing one.
const long = time.Minute

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// watched starts a watcher that only events can wake, and waits until it
// knows what the file holds now.
func watched(t *testing.T, path string, o Options) *Watcher {
	t.Helper()
	if o.Poll == 0 {
		o.Poll = time.Hour
	}
	if o.Quiet == 0 {
		o.Quiet = time.Millisecond
	}
	if o.Settle == 0 {
		o.Settle = time.Nanosecond // the next look takes it
	}
	if o.Read == nil {
		o.Read = readFile
	}
	ctx, cancel := context.WithCancel(context.Background())
	w := New(ctx, path, o)
	<-w.opened
	t.Cleanup(func() {
		cancel()
		for range w.C { // until it is closed: nothing is left running
		}
	})
	return w
}

// expect waits until the watcher tells of a content. What a file held on the
// way there may be told too.
func expect(t *testing.T, w *Watcher, want string) {
	t.Helper()
	end := time.After(long)
	for {
		select {
		case c, ok := <-w.C:
			if !ok {
				t.Fatalf("closed before %q", want)
			}
			if string(c.Content) == want {
				if c.Hash != hashOf(want) {
					t.Errorf("hash %s of %q", c.Hash, want)
				}
				return
			}
		case <-end:
			t.Fatalf("no change to %q was seen", want)
		}
	}
}

func hashOf(text string) string { return "hash of " + text }

func readFile(path string) ([]byte, string, error) {
	raw, err := os.ReadFile(path)
	return raw, hashOf(string(raw)), err
}

func TestWatch(t *testing.T) {
	for name, change := range map[string]func(t *testing.T, path string){
		"write": func(t *testing.T, path string) { write(t, path, "two") },
		"truncate and write in pieces": func(t *testing.T, path string) {
			f, err := os.Create(path)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			for _, piece := range []string{"t", "w", "o"} {
				if _, err := f.WriteString(piece); err != nil {
					t.Fatal(err)
				}
			}
		},
		"rename over": func(t *testing.T, path string) {
			write(t, path+"~", "two")
			rename(t, path+"~", path)
		},
		"move away and create": func(t *testing.T, path string) {
			rename(t, path, path+".bak")
			write(t, path, "two")
		},
		"delete and create": func(t *testing.T, path string) {
			remove(t, path)
			write(t, path, "two")
		},
		"become a symlink": func(t *testing.T, path string) {
			other := filepath.Join(t.TempDir(), "other")
			write(t, other, "two")
			symlink(t, other, path+"~")
			rename(t, path+"~", path)
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "r.yaml")
			write(t, path, "one")
			w := watched(t, path, Options{Known: hashOf("one")})
			change(t, path)
			expect(t, w, "two")
			write(t, path, "three") // still watched, wherever it is now
			expect(t, w, "three")
		})
	}
}

// TestWatchConfigMap swaps ..data as the kubelet does, and removes the old
// directory, twice.
func TestWatchConfigMap(t *testing.T) {
	dir := t.TempDir()
	publish := func(version, text string) {
		at := filepath.Join(dir, "..v"+version)
		if err := os.Mkdir(at, 0o755); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(at, "r.yaml"), text)
		symlink(t, "..v"+version, filepath.Join(dir, "..data_tmp"))
		rename(t, filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data"))
	}
	publish("1", "one")
	path := filepath.Join(dir, "r.yaml")
	symlink(t, "..data/r.yaml", path)
	w := watched(t, path, Options{Known: hashOf("one")})
	publish("2", "two")
	remove(t, filepath.Join(dir, "..v1"))
	expect(t, w, "two")
	publish("3", "three")
	remove(t, filepath.Join(dir, "..v2"))
	expect(t, w, "three")
}

// TestWatchTarget changes what a symlinked file leads to, through a link to
// its directory.
func TestWatchTarget(t *testing.T) {
	a, b, links := t.TempDir(), t.TempDir(), t.TempDir()
	write(t, filepath.Join(a, "r.yaml"), "one")
	write(t, filepath.Join(b, "r.yaml"), "two")
	symlink(t, a, filepath.Join(links, "current"))
	path := filepath.Join(t.TempDir(), "r.yaml")
	symlink(t, filepath.Join(links, "current", "r.yaml"), path)

	w := watched(t, path, Options{Known: hashOf("one")})
	symlink(t, b, filepath.Join(links, "next"))
	rename(t, filepath.Join(links, "next"), filepath.Join(links, "current"))
	expect(t, w, "two")
	write(t, filepath.Join(b, "r.yaml"), "three")
	expect(t, w, "three")
}

// TestWatchDirectory lets the file's directory come late, go, and come back.
func TestWatchDirectory(t *testing.T) {
	parent := t.TempDir()
	dir := filepath.Join(parent, "etc")
	path := filepath.Join(dir, "r.yaml")
	w := watched(t, path, Options{})
	for _, text := range []string{"one", "two"} {
		next := filepath.Join(parent, "next")
		if err := os.Mkdir(next, 0o755); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(next, "r.yaml"), text)
		rename(t, next, dir)
		expect(t, w, text)
		remove(t, dir)
	}
}

// TestWatchPoll: without any event, as on a bind mount, polling sees it.
func TestWatchPoll(t *testing.T) {
	path := filepath.Join(t.TempDir(), "r.yaml")
	poll := make(chan time.Time)
	quiet := func(time.Duration) <-chan time.Time { return nil } // events lead to nothing
	w := watched(t, path, Options{poll: poll, after: quiet})
	poll <- time.Now() // missing: not the end
	write(t, path, "")
	poll <- time.Now() // empty: about to be written
	write(t, path, "one")
	poll <- time.Now()
	poll <- time.Now() // the same again: it is left alone
	expect(t, w, "one")
	poll <- time.Now() // nothing new
	select {
	case c := <-w.C:
		t.Errorf("told of %q again", c.Content)
	default:
	}
	// A slow reader gets the latest only.
	write(t, path, "two")
	poll <- time.Now()
	write(t, path, "three")
	poll <- time.Now()
	poll <- time.Now()
	poll <- time.Now() // taken: the one before was looked at to its end
	if c := <-w.C; string(c.Content) != "three" {
		t.Errorf("told of %q", c.Content)
	}
}

// TestWatchKnown: a content that came into use by hand is no news, and going
// back to the earlier one is.
func TestWatchKnown(t *testing.T) {
	path := filepath.Join(t.TempDir(), "r.yaml")
	write(t, path, "one")
	poll := make(chan time.Time)
	quiet := func(time.Duration) <-chan time.Time { return nil }
	w := watched(t, path, Options{Known: hashOf("one"), poll: poll, after: quiet})
	write(t, path, "two")
	poll <- time.Now()
	w.SetKnown(hashOf("two")) // a reload by hand was quicker
	poll <- time.Now()
	select {
	case c := <-w.C:
		t.Errorf("told of %q, which is in use", c.Content)
	default:
	}
	write(t, path, "one")
	poll <- time.Now()
	poll <- time.Now()
	expect(t, w, "one")
}

// TestWatchHalf: while pieces arrive nothing is read, and then the whole.
func TestWatchHalf(t *testing.T) {
	path := filepath.Join(t.TempDir(), "r.yaml")
	write(t, path, "one")
	quiet, armed := make(chan time.Time), make(chan struct{}, 100)
	after := func(time.Duration) <-chan time.Time {
		armed <- struct{}{}
		return quiet
	}
	w := watched(t, path, Options{Known: hashOf("one"), after: after})
	write(t, path, "half a ")
	<-armed // the watcher has seen it and waits for quiet
	write(t, path, "half a file and the rest")
	quiet <- time.Now()
	quiet <- time.Now() // the same again: it is left alone
	if c := <-w.C; string(c.Content) != "half a file and the rest" {
		t.Errorf("told of %q", c.Content)
	}
}

// TestMaxDelay: a file that is never left alone is read all the same.
func TestMaxDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var waits []time.Duration
		d := debounce{quiet: 100 * time.Millisecond, most: 2 * time.Second, after: func(w time.Duration) <-chan time.Time {
			waits = append(waits, w)
			return nil
		}}
		for range 30 {
			d.event()
			time.Sleep(90 * time.Millisecond)
		}
		if waits[0] != d.quiet || waits[29] != 0 {
			t.Error(waits)
		}
		d.done()
		d.event()
		if waits[30] != d.quiet {
			t.Error(waits)
		}
	})
}

// TestNeighbours: writes beside the file, such as those of logs, are no reason to read it.
func TestNeighbours(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "r.yaml")
	write(t, path, "one")
	var woken atomic.Int32
	after := func(d time.Duration) <-chan time.Time {
		woken.Add(1)
		return time.After(d)
	}
	w := watched(t, path, Options{Known: hashOf("one"), after: after})
	for i := range 100 {
		write(t, filepath.Join(dir, fmt.Sprintf("log%d", i)), "line")
	}
	write(t, path+"~", "two")
	rename(t, path+"~", path) // a move: it is whole
	expect(t, w, "two")
	if n := woken.Load(); n > 10 {
		t.Errorf("%d events of one change and its neighbours were taken for the file's", n)
	}
}

// TestHungFileSystem: a read that doesn't return holds up nobody who uses the watcher.
func TestHungFileSystem(t *testing.T) {
	path := filepath.Join(t.TempDir(), "r.yaml")
	reading, answer := make(chan struct{}), make(chan struct{})
	ctx, cancel := context.WithCancel(context.Background())
	var once sync.Once
	w := New(ctx, path, Options{Read: func(path string) ([]byte, string, error) {
		once.Do(func() { close(reading) })
		<-answer
		return readFile(path)
	}})
	<-reading
	w.SetKnown(hashOf("one"))
	w.SetKnown(hashOf("two"))
	cancel()
	close(answer)
	for range w.C { // until it is closed
	}
}

func TestConcerns(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "r.yaml")
	write(t, path, "")
	l := newLoop(path, Options{Read: readFile}.withDefaults())
	l.open()
	defer l.close()
	for name, want := range map[string]bool{"r.yaml": true, "access.log": false, "r.yaml~": false} {
		if got := l.concerns(fsnotify.Event{Name: filepath.Join(dir, name), Op: fsnotify.Write}); got != want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// TestWatchErrors: a directory that can't be watched is told of once, and
// whoever hears of it may be busy with SetKnown.
func TestWatchErrors(t *testing.T) {
	l := newLoop("x", Options{})
	for range 100 {
		l.failed(errors.New("one"))
	}
	for i := range 100 {
		l.failed(fmt.Errorf("%d", i))
	}
	close(l.errs)
	var heard []string
	l.o.OnError = func(err error) { heard = append(heard, err.Error()) }
	l.report()
	if len(heard) != cap(l.errs) || heard[0] != "one" || heard[1] != "0" {
		t.Error(heard)
	}
}

func TestChain(t *testing.T) {
	dir := t.TempDir()
	symlink(t, "loop", filepath.Join(dir, "loop"))
	if got := chain(filepath.Join(dir, "loop")); len(got) != maxLinks+1 {
		t.Errorf("a loop gave %d entries", len(got))
	}
	write(t, filepath.Join(dir, "file"), "")
	if got := chain(filepath.Join(dir, "x/../file")); len(got) != 1 || !strings.HasSuffix(got[0], "/file") {
		t.Error(got)
	}
	if got := chain(filepath.Join(dir, "file/below")); len(got) != 1 || !strings.HasSuffix(got[0], "/file") {
		t.Error(got)
	}
}

func rename(t *testing.T, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}

func symlink(t *testing.T, target, path string) {
	t.Helper()
	if err := os.Symlink(target, path); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
