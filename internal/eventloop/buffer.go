package eventloop

import "math/bits"

// Buffers are lent: a connection holds one only while part of a message is in
// it. The last one returned is the next one lent, so it is warm in the cache.

// Sizes of buffers: powers of two and those in the middle between two, so that at most a third of
// one is empty when it is lent.
const (
	minBuffer   = 1 << 10
	bufferSteps = 21 // up to 1 MiB
)

// keepBuffers bounds the idle buffers of one size that are kept for later, keepBytes the bytes of all;
// both must hold.
const (
	keepBuffers = 64
	keepBytes   = 8 << 20
)

// buffers is a stack of idle buffers for each size.
type buffers struct {
	*holding
	idle [bufferSteps]Spare[[]byte]
}

// bufferSize returns the size of a step, in bytes.
func bufferSize(step int) int { return (minBuffer + step%2*minBuffer/2) << (step / 2) }

// bufferStep returns the least step whose buffers have room for n bytes.
func bufferStep(n int) int {
	if n <= minBuffer {
		return 0
	}
	k := bits.Len(uint(n-1)) - 1 // 1<<k < n <= 2<<k
	step := 2 * (k - bits.Len(minBuffer) + 1)
	if n <= 3<<(k-1) {
		return step + 1
	}
	return step + 2
}

// get lends an empty buffer with room for n bytes.
func (b *buffers) get(n int) []byte {
	step := bufferStep(n)
	if step >= bufferSteps {
		p := make([]byte, 0, n)
		b.lent += cap(p)
		return p
	}
	size := bufferSize(step)
	b.lent += size
	if p, ok := b.idle[step].Take(); ok {
		b.kept -= size
		return p
	}
	return make([]byte, 0, size)
}

// put takes a buffer back. Those of an odd size or too many are left to the
// garbage collector.
func (b *buffers) put(p []byte) {
	size := cap(p)
	b.lent -= size
	if size < minBuffer || b.short || b.kept+size > keepBytes {
		return
	}
	if step := bufferStep(size); step < bufferSteps && bufferSize(step) == size && b.idle[step].Keep(p[:0], keepBuffers) {
		b.kept += size
	}
}

// free leaves an idle buffer to the garbage collector.
func (b *buffers) free(p []byte) { b.kept -= cap(p) }

// freeAll leaves all idle buffers to the garbage collector.
func (b *buffers) freeAll() {
	if b.kept > 0 {
		b.idle = [bufferSteps]Spare[[]byte]{}
		b.kept = 0
	}
}

// outSize is the buffer that output starts with, in bytes.
const outSize = 16 << 10

// output is what waits to be written: copied bytes, then at most one tail that
// is sent from where it lies.
//
// Invariant: at most one of tail, fd and pipe is there.
type output struct {
	buf  []byte // lent
	done int    // bytes of buf already written

	// What a transport has made of bytes that were in front of buf.
	sealed []byte // lent
	gone   int    // bytes of sealed already written

	waiter mark // whose input waits until all of this has gone

	tail  []byte // never changes; not ours
	owned int    // …but for so many bytes, which came with it from another process

	fd   int32 // file, or -1; ours to close
	off  int64 // where in the file
	left int64 // bytes of the file still to be sent

	pipe  *pipe // lent
	piped int   // bytes in it

	pace Pace // of the peer that is to take it
}

// pending returns the bytes that wait.
func (o *output) pending() int64 {
	return int64(len(o.sealed)-o.gone) + int64(len(o.buf)-o.done) + int64(len(o.tail)) + o.left + int64(o.piped)
}

// tailed reports whether something is sent from where it lies.
func (o *output) tailed() bool { return o.tail != nil || o.fd >= 0 || o.pipe != nil }

// output returns the connection's output to be added to, lending it one if it
// has none. What is queued behind a tail would be sent before it, and an answer
// be garbled in silence: better to lose the connection.
func (l *Loop) output(c *Conn) *output {
	if o := c.out; o != nil {
		if o.tailed() {
			panic("eventloop: more was queued before Flushed was called")
		}
		return o
	}
	if o, ok := l.outputs.Take(); ok {
		c.out = o
	} else {
		c.out = &output{fd: -1}
	}
	return c.out
}

// room returns the queued bytes with room for n more.
func (l *Loop) room(o *output, n int) []byte {
	if need := len(o.buf) + n; need > cap(o.buf) {
		grown := append(l.buffers.get(max(need, 2*cap(o.buf), outSize)), o.buf...)
		l.buffers.put(o.buf)
		o.buf = grown
	}
	return o.buf
}

// freeOutput takes the output back.
func (l *Loop) freeOutput(c *Conn) {
	o := c.out
	c.out = nil
	if o.fd >= 0 {
		closeFile(o.fd)
		l.budget.give(1)
	}
	if o.pipe != nil {
		l.putPipe(o.pipe, o.piped == 0)
	}
	if w := o.waiter; w.c != nil && w.c.gen == w.gen && w.c.has(open) {
		l.unwait(w.c)
	}
	l.buffers.put(o.buf)
	l.buffers.put(o.sealed)
	l.mem.lent -= o.owned
	*o = output{fd: -1}
	l.outputs.Keep(o, keepBuffers)
}
