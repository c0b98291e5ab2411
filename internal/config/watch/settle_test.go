package watch

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const prefixes = "one\ntwo\nthree\nfour\nfive\nsix\nseven\neight\nnine\nten\n"

// TestSettlingLines: a line at a time, each with an open and a close of its own, is taken only as a whole,
// however the pauses are, as long as none is four times as long as those before.
func TestSettlingLines(t *testing.T) {
	lines := strings.SplitAfter(prefixes, "\n")
	lines = lines[:len(lines)-1]
	for _, pause := range []time.Duration{time.Millisecond, 150 * time.Millisecond, 600 * time.Millisecond, 2 * time.Second} {
		for name, inUse := range map[string]string{"a prefix": prefixes, "new": "zero\n", "appended": "one\n"} {
			if pause == 2*time.Second && name == "new" {
				continue // nothing tells the first line from a whole file
			}
			s, now, text := settling{base: time.Second}, time.Unix(1, 0), ""
			for i, line := range append([]string{""}, lines...) {
				text += line
				for at := time.Duration(0); at < pause; at += 50 * time.Millisecond {
					if text == inUse {
						s.reset()
					} else if again := s.look(now.Add(at), []byte(text), []byte(inUse), written); again <= 0 && text != prefixes {
						t.Fatalf("%s, a line each %s: taken with %d lines", name, pause, i)
					}
				}
				now = now.Add(pause)
			}
			if text == inUse {
				continue
			}
			if again := s.look(now, []byte(text), []byte(inUse), written); again > mostBy*time.Second {
				t.Errorf("%s, a line each %s: the whole is to wait for %s", name, pause, again)
			}
			if again := s.look(now.Add(mostBy*time.Second), []byte(text), []byte(inUse), written); again != 0 {
				t.Errorf("%s, a line each %s: the whole is to wait for %s more", name, pause, again)
			}
		}
	}
}

func TestSettling(t *testing.T) {
	start := time.Unix(1, 0)
	for _, c := range []struct {
		what       string
		raw, inUse string
		how        origin
		want       time.Duration
	}{
		{"moved to its place", "b", "a", replaced, 0},
		{"other content", "b", "a", written, time.Second},
		{"no events, as on a network file system", "b", "a", unknown, time.Second},
		{"a prefix of what is in use", "a", "ab", written, 3 * time.Second},
		{"what is in use and more", "ab", "a", written, 3 * time.Second},
		{"truncated", "", "a", written, 3 * time.Second},
		{"somebody has it open", "b", "a", writing, 10 * time.Second},
	} {
		s := settling{base: time.Second}
		if got := s.look(start, []byte(c.raw), []byte(c.inUse), c.how); got != c.want {
			t.Errorf("%s: left alone for %s, want %s", c.what, got, c.want)
		}
		if got := s.look(start.Add(c.want), []byte(c.raw), []byte(c.inUse), c.how); got != 0 {
			t.Errorf("%s: left alone for %s more", c.what, got)
		}
	}
}

// TestOrigin asks the kernel how a file came to what it holds.
func TestOrigin(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "r.yaml")
	w, err := newWrites()
	if err != nil {
		t.Fatal(err)
	}
	defer w.close()
	w.add(dir)
	entries := map[string]bool{path: true}
	is := func(want origin, what string) {
		t.Helper()
		if got := w.drain(entries); got != want {
			t.Errorf("%s: %d, want %d", what, got, want)
		}
	}
	is(unknown, "nothing there")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	is(writing, "created")
	for i := range 3 {
		fmt.Fprintf(f, "line %d\n", i)
		is(writing, "a line")
	}
	f.Close()
	is(written, "closed")
	write(t, path+"~", "two")
	is(written, "a neighbour is written")
	rename(t, path+"~", path)
	is(replaced, "renamed over")
	if f, err = os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0); err != nil {
		t.Fatal(err)
	}
	is(replaced, "opened, and nothing written")
	fmt.Fprintln(f, "more")
	is(writing, "appended")
	f.Close()
	is(written, "closed again")
	w.forget()
	if err := os.Truncate(path, 0); err != nil {
		t.Fatal(err)
	}
	is(writing, "truncated")
	remove(t, path)
	symlink(t, "elsewhere", path)
	is(replaced, "a symlink")

	other := t.TempDir() // the directory is another one: what happens in the first is none of its events
	remove(t, path)
	rename(t, dir, dir+"~")
	symlink(t, other, dir)
	w.add(dir)
	is(replaced, "another directory")
	write(t, filepath.Join(dir+"~", "r.yaml"), "one")
	is(replaced, "written in the directory that was")
	write(t, path, "one")
	is(written, "written in the other directory")
	w.remove(dir)
	rename(t, path, path+"~")
	rename(t, path+"~", path)
	is(written, "not watched any more")
}
