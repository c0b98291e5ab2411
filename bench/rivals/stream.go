package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"reuseportd/internal/rig"
)

// startEcho is the server behind the rivals' TCP proxies.
func startEcho() (net.Listener, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return // closed
			}
			go func() {
				defer conn.Close()
				_, _ = io.Copy(conn, conn)
			}()
		}
	}()
	return l, nil
}

// stream sends numbered chunks on one connection and reads each one's echo.
type stream struct {
	conn net.Conn
	end  chan struct{}
	done chan error
	once sync.Once
	err  error
}

// openStream returns when the first chunk has come back.
func openStream(ctx context.Context, address string) (*stream, error) {
	conn, err := rig.Dial(ctx, address)
	if err != nil {
		return nil, err
	}
	s := &stream{conn: conn, end: make(chan struct{}), done: make(chan error, 1)}
	if err := s.chunk(0); err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("stream through %s: %w", address, err)
	}
	go func() { s.done <- s.flow(ctx) }()
	return s, nil
}

func (s *stream) flow(ctx context.Context) error {
	for n := uint64(1); ; n++ {
		if err := s.chunk(n); err != nil {
			return err
		}
		select {
		case <-s.end:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(2 * time.Millisecond):
		}
	}
}

var errChanged = errors.New("the echo is not what was sent")

func (s *stream) chunk(n uint64) error {
	const size = 1024
	sent, got := make([]byte, size), make([]byte, size)
	for i := 0; i < size; i += 8 {
		binary.LittleEndian.PutUint64(sent[i:], n+uint64(i))
	}
	if err := s.conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return err
	}
	if _, err := s.conn.Write(sent); err != nil {
		return err
	}
	if _, err := io.ReadFull(s.conn, got); err != nil {
		return err
	}
	if !bytes.Equal(sent, got) {
		return errChanged
	}
	return nil
}

// stop ends the stream and returns what had ended it before, if anything.
func (s *stream) stop() error {
	s.once.Do(func() {
		close(s.end)
		s.err = <-s.done
		_ = s.conn.Close()
	})
	return s.err
}
