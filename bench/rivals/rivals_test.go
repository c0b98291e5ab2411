package main

import (
	"net"
	"testing"

	"reuseportd/internal/rig"
)

func TestStream(t *testing.T) {
	l, err := startEcho()
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s, err := openStream(t.Context(), l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time it says the same
		if err := s.stop(); err != nil {
			t.Errorf("an echo that lives: %v", err)
		}
	}
}

// A server that answers once and closes ends the stream.
func TestStreamEnds(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		conn, err := l.Accept()
		if err != nil {
			return
		}
		buf := make([]byte, 1024)
		n, _ := conn.Read(buf)
		_, _ = conn.Write(buf[:n])
		_ = conn.Close()
	}()
	s, err := openStream(t.Context(), l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	<-closed
	if err := <-s.done; err == nil {
		t.Error("the stream goes on without a server")
	} else {
		s.done <- err
	}
	if s.stop() == nil {
		t.Error("stop doesn't tell that the stream had ended")
	}
}

func TestOutcome(t *testing.T) {
	for want, tally := range map[string]rig.Tally{
		"0 of 5 lost": {Answered: 5},
		"1 of 5 lost, 2 closed, 3 connects failed": {Answered: 4, Lost: 1, Closed: 2, Failed: 3},
		"0 of 1 lost, 1 connects took 1 s":         {Answered: 1, Slow: 1},
	} {
		if got := outcome(tally); got != want {
			t.Errorf("%+v: %s, want %s", tally, got, want)
		}
	}
}
