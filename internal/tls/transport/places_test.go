package transport_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"fmt"
	"net"
	"runtime"
	"strings"
	"testing"
)

// TestPlacesInTurn: who waits for a place gets it in turn, before any that comes later, and those that go away while they wait
// keep it from nobody.
func TestPlacesInTurn(t *testing.T) {
	s := serve(t, config(ec(t)), 1)
	hello := helloOf(t, trusting(0))
	first := s.dial()
	_, err := first.Write(hello)
	must(t, err)
	s.until("one shakes", func() bool { return s.Open() == 1 && s.Count().BytesOut > 0 })
	var gone []*net.TCPConn
	for i := range 100 {
		c := s.dial()
		_, err := c.Write(hello)
		must(t, err)
		s.until("it waits", func() bool { return s.Count().ShakesWaited == uint64(i+1) })
		gone = append(gone, c)
	}
	const wait = 5
	var done [wait]chan struct{}
	order := make(chan int, wait)
	for i := range wait {
		done[i] = make(chan struct{})
		raw := s.dial()
		go func() {
			defer close(done[i])
			c := tls.Client(raw, trusting(0))
			if err := c.Handshake(); err != nil {
				t.Errorf("client %d: %v", i, err)
			}
			says(t, c, fmt.Sprint(i))
			order <- i
		}()
		s.until("it waits", func() bool { return s.Count().ShakesWaited == uint64(101+i) })
	}
	for _, c := range gone {
		must(t, c.SetLinger(0))
		must(t, c.Close())
	}
	s.until("those have gone", func() bool { return s.Open() == 1+wait })
	must(t, first.SetLinger(0))
	must(t, first.Close())
	for _, d := range done {
		<-d
	}
	if n := len(order); n != wait {
		t.Errorf("%d are served", n)
	}
	s.do(func() {
		if n := s.Count().ShakesWaited; n != 100+wait {
			t.Errorf("%d have waited, one of them twice", n)
		}
	})
}

// TestPlaceOfOneThatGoes: a place whose next owner goes away before it has begun is the one's behind it.
func TestPlaceOfOneThatGoes(t *testing.T) {
	s := serve(t, config(ec(t)), 1)
	hello := helloOf(t, trusting(0))
	var all [3]*net.TCPConn
	for i := range all {
		all[i] = s.dial()
		_, err := all[i].Write(hello)
		must(t, err)
		s.until("it shakes, or waits", func() bool { return s.Open() == i+1 && s.Count().BytesIn == uint64((i+1)*len(hello)) })
	}
	release := make(chan struct{})
	s.Post(func() { <-release })
	for _, c := range all[:2] { // both ends are seen in one turn
		must(t, c.SetLinger(0))
		must(t, c.Close())
	}
	close(release)
	got := make([]byte, 1)
	if _, err := all[2].Read(got); err != nil || got[0] != 22 {
		t.Errorf("got %v, error %v", got, err)
	}
}

// TestStalledMakePlaces: handshakes whose clients don't answer give their places to others, as many as are wanted, though they
// send pieces of a record.
func TestStalledMakePlaces(t *testing.T) {
	s := serve(t, config(ec(t)), 2)
	hello := helloOf(t, trusting(0))
	for range 2 {
		c := s.dial()
		_, err := c.Write(hello)
		must(t, err)
		go func() {
			for {
				if _, err := c.Write([]byte{22, 3, 3, 0x20, 0}[:1]); err != nil {
					return
				}
				if _, err := c.Read(make([]byte, 100)); err != nil {
					return
				}
			}
		}()
	}
	s.until("both have their places", func() bool { return s.Count().BytesIn >= uint64(2*len(hello)) })
	for i := range 4 {
		says(t, s.client(trusting(0)), fmt.Sprint("client ", i))
	}
	s.do(func() {
		if len(s.failed) != 1 || !strings.Contains(s.failed[0], "has not answered for a second") || s.Count().ShakesFailed != 1 {
			t.Errorf("failed are %q", s.failed)
		}
	})
}

// TestSignaturesOfTheGone: clients that go away while their signature is waited for leave no work, and no more goroutines than
// there are places.
func TestSignaturesOfTheGone(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	must(t, err)
	cert, leave := issue(t, key), make(chan struct{})
	cert.PrivateKey = heldRSA{key, leave}
	const most = 4
	s := serve(t, config(cert), most)
	hello := helloOf(t, trusting(0))
	before := runtime.NumGoroutine()
	const clients = 200
	for i := range clients {
		c := s.dial()
		_, err := c.Write(hello)
		must(t, err)
		s.until("it is read", func() bool { return s.Count().BytesIn == uint64((i+1)*len(hello)) })
		must(t, c.SetLinger(0))
		must(t, c.Close())
		s.until("it has gone", func() bool { return s.Open() == 0 })
	}
	if n := runtime.NumGoroutine() - before; n > most+2 {
		t.Errorf("%d goroutines for %d places", n, most)
	}
	leave <- struct{}{} // the one that has begun
	done := make(chan struct{})
	go func() { defer close(done); says(t, s.client(trusting(0)), "I am here") }()
	leave <- struct{}{} // and this one's: nobody else asks
	<-done
}
