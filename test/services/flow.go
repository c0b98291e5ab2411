package services

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"io"
	"math/rand/v2"
	"sync"
)

// Flow is a reader of size bytes that are always the same, no two pages alike. It
// stops in its steps, at equal distances, until gate opens the next.
type Flow struct {
	ctx    context.Context
	gate   *Gate
	size   int64
	steps  int
	at     int64
	page   []byte
	passed int // steps
}

const page = 16 << 10

// NewFlow returns a flow with a number of steps. If gate is nil it never stops.
func NewFlow(ctx context.Context, size int64, steps int, gate *Gate) *Flow {
	f := &Flow{ctx: ctx, gate: gate, size: size, steps: steps, page: make([]byte, page)}
	_, _ = rand.NewChaCha8([32]byte{1}).Read(f.page) // never fails
	return f
}

func (f *Flow) Read(b []byte) (int, error) {
	if f.at >= f.size {
		return 0, io.EOF
	}
	// The next step begins at this byte.
	end := f.size
	if f.gate != nil {
		if end = f.size * int64(f.passed+1) / int64(f.steps); f.at >= end {
			f.passed++
			if err := f.gate.Wait(f.ctx, f.passed); err != nil {
				return 0, err
			}
			end = f.size * int64(f.passed+1) / int64(f.steps)
		}
	}
	n := 0
	for n < len(b) && f.at < end {
		in := f.at % page
		binary.BigEndian.PutUint64(f.page, uint64(f.at/page))
		got := copy(b[n:min(int64(len(b)), int64(n)+end-f.at)], f.page[in:])
		n += got
		f.at += int64(got)
	}
	return n, nil
}

var hashes sync.Map // by size

// FlowHash is the SHA-256 of a flow, in hexadecimal.
func FlowHash(size int64) string {
	once, _ := hashes.LoadOrStore(size, sync.OnceValue(func() string {
		hash, _ := Hash(NewFlow(context.Background(), size, 1, nil)) // never fails
		return hash
	}))
	return once.(func() string)()
}

// Hash is the SHA-256 of what r has, in hexadecimal.
func Hash(r io.Reader) (string, error) {
	h := sha256.New()
	buf := make([]byte, 256<<10)
	_, err := io.CopyBuffer(h, struct{ io.Reader }{r}, buf)
	return hex.EncodeToString(h.Sum(nil)), err
}
