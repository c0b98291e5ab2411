package echo_test

import (
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestAllocatesNothing: what is echoed leaves nothing for the garbage collector.
func TestAllocatesNothing(t *testing.T) {
	for name, size := range map[string]int{"small": 64, "large": 32 << 10} {
		t.Run(name, func(t *testing.T) {
			f, err := serve(t, time.Minute).File() // package net would allocate
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			fd := int(f.Fd())
			if err := unix.SetNonblock(fd, false); err != nil {
				t.Fatal(err)
			}
			buf := make([]byte, size)
			run := func(n int) {
				for range n {
					for sent := 0; sent < size; {
						k, err := unix.Write(fd, buf[sent:])
						if err != nil && err != unix.EINTR {
							t.Fatal(err)
						}
						sent += max(k, 0)
					}
					for got := 0; got < size; {
						k, err := unix.Read(fd, buf[got:])
						if err != nil && err != unix.EINTR || err == nil && k == 0 {
							t.Fatal(k, err)
						}
						got += max(k, 0)
					}
				}
			}
			run(200)
			var a, b runtime.MemStats
			runtime.ReadMemStats(&a)
			run(1000)
			runtime.ReadMemStats(&b)
			if got := b.Mallocs - a.Mallocs; got > 50 {
				t.Errorf("%d allocations for 1000 echoes", got)
			}
		})
	}
}
