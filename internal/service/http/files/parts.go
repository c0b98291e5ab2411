package files

import (
	"fmt"
	"math"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"

	"reuseportd/internal/eventloop"
	"reuseportd/internal/pack"
	"reuseportd/internal/service/http/stream"
)

// Parts is an answer in several parts, each of which is queued when the previous one has
// been written.
type Parts struct {
	stream.NoBody
	loop  *eventloop.Loop
	s     stream.Stream
	parts []part // still to be sent
	fd    int    // of the file
	tail  []byte // after the last part
}

// next queues a part, or ends the answer. It reports whether the answer goes on.
func (p *Parts) next() bool {
	if len(p.parts) == 0 {
		p.s.Data(p.tail)
		p.close()
		p.s.End()
		return false
	}
	one := p.parts[0]
	p.parts = p.parts[1:]
	fd, err := dup(p.fd)
	if err != nil {
		p.close()
		p.s.Abort() // the promised length can't be kept
		return false
	}
	p.s.Data(one.head)
	p.s.File(fd, one.off, one.n)
	return true
}

func (p *Parts) close() {
	closeFD(p.fd)
	p.fd = -1
	p.loop.CountFiles(-1)
}

// Room implements stream.Responder.
func (p *Parts) Room() { p.next() }

// TimedOut implements stream.Responder: the answer has no deadline.
func (p *Parts) TimedOut() {}

// Ended implements stream.Responder.
func (p *Parts) Ended() bool { return true }

// Gone implements stream.Responder.
func (p *Parts) Gone(unix.Errno, bool) { p.close() }

// Held implements stream.Responder.
func (p *Parts) Held() int {
	n := int(unsafe.Sizeof(*p)) + cap(p.tail)
	for i := range p.parts {
		n += int(unsafe.Sizeof(part{})) + cap(p.parts[i].head)
	}
	return n
}

// Freeze implements stream.Responder.
func (p *Parts) Freeze(b []byte) (kind stream.Kind, out []byte, fds []int) {
	r := pack.Writing(b)
	p.record(r)
	return stream.KindParts, r.Written(), []int{p.fd}
}

// record writes or reads what is left of the answer, without the file.
func (p *Parts) record(r *pack.Record) {
	r.Bytes(&p.tail)
	n := len(p.parts)
	r.Int(&n, maxRanges)
	if r.Reads() {
		p.tail, p.parts = slices.Clone(p.tail), make([]part, n)
	}
	for i := range p.parts {
		one := &p.parts[i]
		r.Bytes(&one.head)
		r.Int64(&one.off, math.MaxInt64)
		r.Int64(&one.n, math.MaxInt64)
		if r.Reads() {
			one.head = slices.Clone(one.head)
		}
	}
}

var errParts = fmt.Errorf("the parts of a file are not understood: %w", pack.ErrMalformed)

// ThawParts makes the answer that Freeze has written, for a stream of a loop. It takes over the file
// unless it returns an error.
func ThawParts(l *eventloop.Loop, s stream.Stream, b []byte, fds []int) (*Parts, error) {
	p := &Parts{loop: l, s: s}
	r := pack.Reading(b)
	if p.record(r); r.End() != nil || len(fds) != 1 {
		return nil, errParts
	}
	for i := range p.parts {
		if p.parts[i].n == 0 {
			return nil, errParts
		}
	}
	p.fd = fds[0]
	l.CountFiles(1)
	return p, nil
}
