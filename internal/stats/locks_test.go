package stats

import (
	"fmt"
	"os"
	"sync/atomic"
	"testing"

	"reuseportd/internal/eventloop"
)

func TestMutexes(t *testing.T) {
	l := newLedger(t)
	a, ok := l.Mutex("tcp4!127.0.0.1:80")
	b, ok2 := l.Mutex("unix!/run/b.sock")
	if !ok || !ok2 || a == b {
		t.Fatalf("mutexes %d %v, %d %v", a, ok, b, ok2)
	}
	next := reopened(t, l) // the next master
	if again, ok := next.Mutex("unix!/run/b.sock"); !ok || again != b {
		t.Errorf("the next master has %d for it, want %d", again, b)
	}
	r, err := MapPages(dup(t, l.Region), reserve(t, l, 1, 1), 1) // a worker
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	words := make(map[int]*uint32)
	for i, holder := range map[int]int{a: os.Getpid(), b: 1<<22 + 1} {
		word, err := r.Lock(i)
		if err != nil {
			t.Fatal(err)
		}
		atomic.StoreUint32(word, uint32(holder))
		words[i] = word
	}
	next.KeepLocks([]string{"unix!/run/b.sock"}, func(pid int) bool { return pid == os.Getpid() })
	if holder := eventloop.MutexHolder(words[b]); holder != 0 {
		t.Errorf("the dead process %d holds it", holder)
	}
	if c, ok := next.Mutex("another"); !ok || c != a {
		t.Errorf("a free mutex is %d, want %d", c, a)
	}
	wantTotal(t, l, 0)
}

func TestMutexesRunOut(t *testing.T) {
	l := newLedger(t)
	for i := range MaxLocks {
		if _, ok := l.Mutex(fmt.Sprint(i)); !ok {
			t.Fatalf("no mutex %d", i)
		}
	}
	if i, ok := l.Mutex("one more"); ok {
		t.Errorf("mutex %d", i)
	}
	for _, i := range []int{-1, MaxLocks} {
		if _, err := l.Lock(i); err == nil {
			t.Errorf("there is a mutex %d", i)
		}
	}
}
