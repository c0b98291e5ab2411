package eventloop

// Buffers are lent: a connection holds one only while part of a message is in
// it. The last one returned is the next one lent, so it is warm in the cache.

// bufferSizes are the sizes lent, in bytes.
var bufferSizes = [...]int{1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20}

// keepBuffers and keepBytes bound the idle buffers of one size that are kept for
// later: both must hold.
const (
	keepBuffers = 64
	keepBytes   = 4 << 20
)

// buffers is a stack of idle buffers for each size.
type buffers struct {
	idle [len(bufferSizes)][][]byte
}

// get lends an empty buffer with room for n bytes.
func (b *buffers) get(n int) []byte {
	for i, size := range bufferSizes {
		if n > size {
			continue
		}
		if k := len(b.idle[i]); k > 0 {
			p := b.idle[i][k-1]
			b.idle[i] = b.idle[i][:k-1]
			return p
		}
		return make([]byte, 0, size)
	}
	return make([]byte, 0, n)
}

// put takes a buffer back. Those of an odd size or too many are left to the
// garbage collector.
func (b *buffers) put(p []byte) {
	for i, size := range bufferSizes {
		if cap(p) == size && len(b.idle[i]) < min(keepBuffers, keepBytes/size) {
			if b.idle[i] == nil {
				b.idle[i] = make([][]byte, 0, keepBuffers)
			}
			b.idle[i] = append(b.idle[i], p[:0])
			return
		}
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

	waiter mark // whose input waits until all of this has gone

	tail []byte // never changes; not ours

	fd   int32 // file, or -1; ours to close
	off  int64 // where in the file
	left int64 // bytes of the file still to be sent

	pipe  *pipe // lent
	piped int   // bytes in it
}

// pending returns the bytes that wait.
func (o *output) pending() int64 {
	return int64(len(o.buf)-o.done) + int64(len(o.tail)) + o.left + int64(o.piped)
}

// tailed tells whether something is sent from where it lies.
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
	if k := len(l.outputs); k > 0 {
		c.out = l.outputs[k-1]
		l.outputs = l.outputs[:k-1]
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

// release takes the output back.
func (l *Loop) release(c *Conn) {
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
	*o = output{fd: -1}
	if len(l.outputs) < keepBuffers {
		l.outputs = append(l.outputs, o)
	}
}
