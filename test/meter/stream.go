package meter

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"time"
)

// chunk is a part of a stream that was written, to time its echo.
type chunk struct {
	end int64 // offset of the byte behind it
	at  time.Time
}

// stream opens echo streams one after another: random bytes in chunks of
// varying size, each byte of the echo compared, then a half-close, after which
// exactly the rest and an end of file must come.
func (m *Meter) stream(ctx context.Context, t *tally, id int) {
	rnd := rand.New(rand.NewPCG(m.cfg.Seed, 2000+uint64(id)))
	for n := 0; ctx.Err() == nil; n++ {
		life := m.cfg.StreamLife/4 + time.Duration(rnd.Int64N(1+int64(m.cfg.StreamLife)*3/4))
		sctx, cancel := context.WithTimeout(ctx, life)
		if id == 0 {
			sctx = ctx
		}
		var seed [32]byte
		binary.LittleEndian.PutUint64(seed[:], m.cfg.Seed)
		binary.LittleEndian.PutUint64(seed[8:], uint64(id))
		binary.LittleEndian.PutUint64(seed[16:], uint64(n))
		m.streamOnce(sctx, t, seed, rnd)
		cancel()
		if ctx.Err() == nil && sctx.Err() == nil {
			sleep(ctx, afterLoss) // it ended early: it was lost
		}
	}
}

func (m *Meter) streamOnce(ctx context.Context, t *tally, seed [32]byte, rnd *rand.Rand) {
	c, err := m.dial(t, m.cfg.Echo)
	if err != nil {
		t.lost(nil, err, 1)
		return
	}
	defer c.Close()

	chunks := make(chan chunk, 1024) // bounds the bytes under way
	failed := make(chan error, 1)    // of the writer
	ctx, cancel := context.WithCancel(ctx)
	go func() { failed <- writeStream(ctx, c, rand.NewChaCha8(seed), rnd, chunks) }()
	readErr := readStream(t, c, rand.NewChaCha8(seed), chunks)
	cancel()
	if readErr != nil {
		// Let a writer go that waits for the connection or for the reader.
		c.Close()
		go func() {
			for range chunks {
			}
		}()
	}
	writeErr := <-failed
	// The reader's error tells more, unless the writer's came first.
	switch {
	case readErr != nil:
		t.lost(c.LocalAddr(), readErr, 1)
	case writeErr != nil:
		t.lost(c.LocalAddr(), writeErr, 1)
	default:
		t.finished()
	}
}

// writeStream sends until ctx ends, then half-closes. It closes chunks.
func writeStream(ctx context.Context, c *conn, seq io.Reader, rnd *rand.Rand, chunks chan<- chunk) error {
	defer close(chunks)
	buf := make([]byte, 16<<10)
	for end := int64(0); ctx.Err() == nil; {
		b := buf[:1+rnd.IntN(1<<(4+rnd.IntN(11)))]
		_, _ = seq.Read(b) // ChaCha8 never fails
		end += int64(len(b))
		// Said before it is done, so that no echo can overtake its chunk.
		chunks <- chunk{end, time.Now()}
		if err := c.SetWriteDeadline(time.Now().Add(c.timeout)); err != nil {
			return &fault{Write, err}
		}
		if _, err := c.Write(b); err != nil {
			return &fault{Write, err}
		}
		sleep(ctx, time.Duration(rnd.IntN(8))*time.Millisecond)
	}
	if err := c.Conn.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		return &fault{Write, fmt.Errorf("half-close: %w", err)}
	}
	return nil
}

// readStream compares chunk after chunk, and expects the end when there is no
// other.
func readStream(t *tally, c net.Conn, seq io.Reader, chunks <-chan chunk) error {
	timeout := c.(*conn).timeout
	var got, want [16 << 10]byte
	var at int64
	for ch := range chunks {
		for at < ch.end {
			if err := c.SetReadDeadline(time.Now().Add(timeout)); err != nil {
				return &fault{ReadBody, err}
			}
			n, err := c.Read(got[:min(int64(len(got)), ch.end-at)])
			_, _ = seq.Read(want[:n])
			if i := firstDifference(got[:n], want[:n]); i >= 0 {
				return &fault{ReadBody, fmt.Errorf("byte %d of the stream is %#02x, want %#02x", at+int64(i), got[i], want[i])}
			}
			at += int64(n)
			if err != nil {
				return &fault{ReadBody, fmt.Errorf("after byte %d, with at least %d under way: %w", at, ch.end-at, err)}
			}
			t.echoed(0, n)
		}
		t.echoed(time.Since(ch.at), 0)
	}
	if err := c.SetReadDeadline(time.Now().Add(timeout)); err != nil {
		return &fault{ReadBody, err}
	}
	switch n, err := c.Read(got[:1]); {
	case n > 0:
		return &fault{ReadBody, fmt.Errorf("more than the %d bytes sent", at)}
	case !errors.Is(err, io.EOF):
		return &fault{ReadBody, fmt.Errorf("end of file expected after all %d bytes: %w", at, err)}
	}
	return nil
}

// firstDifference returns the index of the first difference, -1 if there is none.
func firstDifference(a, b []byte) int {
	if bytes.Equal(a, b) {
		return -1
	}
	for i := range a {
		if a[i] != b[i] {
			return i
		}
	}
	return -1
}
