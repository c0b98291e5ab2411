package serving

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"reuseportd/internal/control"
	"reuseportd/internal/tls/tlstest"
	"reuseportd/test/harness"
	"reuseportd/test/kit"
)

// TestTLSFloods: hostile clients of every kind, all at once, keep nobody else from being served through reloads and upgrades;
// nothing panics, and what they cost is gone with them.
func TestTLSFloods(t *testing.T) {
	k := newSecured(t)
	big := bytes.Repeat([]byte("0123456789abcdef"), 1<<18)
	kit.Must(t, os.WriteFile(k.path("big"), big, 0o644))
	s := harness.Start(t, k.conf)
	stop := make(chan struct{})
	var hostile, honest sync.WaitGroup
	var made atomic.Int64
	flood := func(n int, f func(c net.Conn)) {
		for range n {
			hostile.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
					}
					c, err := net.DialTimeout("tcp", k.conf.Address([]string{"web", "echo", "tcp"}[made.Add(1)%3]), harness.Within)
					if err != nil {
						continue
					}
					_ = c.SetDeadline(time.Now().Add(time.Second))
					f(c)
					_ = c.(*net.TCPConn).SetLinger(0)
					_ = c.Close()
				}
			})
		}
	}
	hello := capture(t, k.config(0))
	junk := make([]byte, 64<<10)
	_, _ = rand.Read(junk)
	wait := func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }
	flood(200, func(c net.Conn) { _, _ = c.Write(hello[:len(hello)-1]); wait(c) })                                  // half a hello
	flood(100, func(c net.Conn) { _, _ = c.Write(append([]byte{22, 3, 1, 0x3f, 0xff}, junk[:16000]...)); wait(c) }) // and a long one
	flood(100, func(c net.Conn) { _, _ = c.Write(hello); wait(c) })                                                 // no answer
	flood(4, func(c net.Conn) { _, _ = c.Write(hello) })                                                            // and gone
	flood(4, func(c net.Conn) { _, _ = c.Write(append(bytes.Clone(hello), junk...)); wait(c) })
	flood(4, func(c net.Conn) { _, _ = c.Write(junk); wait(c) })
	flood(4, func(c net.Conn) {
		for i := range hello {
			_, _ = c.Write(hello[i : i+1])
		}
	})
	shaken := func(f func(c *tlstest.Conn)) func(net.Conn) {
		return func(c net.Conn) {
			conf := k.config([]uint16{tls.VersionTLS12, tls.VersionTLS13}[made.Load()%2])
			if h, err := tlstest.Shake(c, conf); err == nil {
				f(h)
			}
		}
	}
	flood(4, shaken(func(c *tlstest.Conn) {
		for c.Version == tls.VersionTLS13 {
			if _, err := c.Write(c.Update(1)); err != nil {
				return
			}
		}
	}))
	flood(4, shaken(func(c *tlstest.Conn) {
		for {
			if _, err := c.Write(c.Seal(tlstest.Data, nil, 1000)); err != nil {
				return
			}
		}
	}))
	flood(4, shaken(func(c *tlstest.Conn) {
		kind := junk[made.Load()%1000]
		_, _ = c.Write(append(c.Seal(kind, junk[:100], 0), c.Seal(tlstest.Data, junk[:16<<10], 0)...))
		wait(c)
	}))
	flood(30, shaken(func(c *tlstest.Conn) { // downloads that nobody reads
		_, _ = c.Write(c.Seal(tlstest.Data, []byte("GET /big HTTP/1.1\r\nHost: a.example\r\n\r\n"), 0))
		for range 10 {
			if c.Version == tls.VersionTLS13 {
				_, _ = c.Write(c.Update(1))
			}
		}
		<-time.After(500 * time.Millisecond) // it is what is tried
	}))

	var asked, slowest atomic.Int64
	for i := range 4 {
		honest.Go(func() {
			c := k.client("web", []uint16{tls.VersionTLS12, tls.VersionTLS13}[i%2])
			for {
				select {
				case <-stop:
					return
				default:
				}
				began := time.Now()
				c.Soon()
				c.Ask("/hi", "hello")
				if asked.Add(1)%20 == 0 {
					fresh := k.client("web", 0)
					fresh.Ask("/p/", "plain\n")
					fresh.Close()
				}
				slowest.Store(max(slowest.Load(), int64(time.Since(began))))
			}
		})
	}
	for i := range 4 {
		at := asked.Load()
		s.Wait("requests to be answered", func() bool { return asked.Load() > at+100 })
		if r := s.ChangeOver(changes[i%len(changes)]); !r.OK {
			t.Errorf("receipt %+v", r)
		}
	}
	var held []string
	for _, pid := range s.Workers() {
		held = append(held, strings.TrimSpace(harness.ProcStatus(pid, "VmRSS")))
	}
	close(stop)
	honest.Wait()
	hostile.Wait()
	st := s.WaitStatus("the hostile ones to be gone", func(st *control.Status) bool { return openIn(st) <= 16 })
	t.Logf("%d hostile connections, %d requests beside, the slowest %s; workers hold %s; failed handshakes %d, waited %d", made.Load(), asked.Load(),
		time.Duration(slowest.Load()), fmt.Sprint(held), st.Totals.ShakesFailed, st.Totals.ShakesWaited)
	if st.Totals.Panics > 0 || st.Totals.Cut > 0 || st.Totals.ShakesFailed == 0 {
		t.Errorf("%d panics, %d cut, %d failed handshakes", st.Totals.Panics, st.Totals.Cut, st.Totals.ShakesFailed)
	}
}

// capture returns a client's hello.
func capture(t *testing.T, conf *tls.Config) []byte {
	t.Helper()
	a, b := net.Pipe()
	defer b.Close()
	defer a.Close()
	go func() { _ = tls.Client(a, conf).Handshake() }()
	buf := make([]byte, 16<<10)
	n, err := b.Read(buf)
	kit.Must(t, err)
	return buf[:n]
}
