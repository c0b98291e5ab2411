package h1

import (
	"fmt"
	"math"

	"reuseportd/internal/eventloop"
	"reuseportd/internal/pack"
	"reuseportd/internal/service/http/message"
	"reuseportd/internal/service/http/stream"
)

// Servers is the servers' side of HTTP/1 in one loop. It holds the buffers that the calls
// of the loop share.
type Servers struct {
	resp message.Response
	opts message.Options
}

// Call implements stream.Call: one request on a connection to a server. It is reused for
// the next one.
type Call struct {
	shared *Servers
	conn   *eventloop.Conn
	in     uint64 // bytes consumed, and those that lie in the input
	out    uint64 // bytes that were queued
	seen   int    // bytes of the input that in counts already

	// The request.
	head    bool // its method is HEAD
	upgrade bool
	chunked bool

	CallState
	piece []byte
}

// CallState is how far a call has come, as data: all of it that goes to another process.
type CallState struct {
	Coding  Encoder // of the request's body
	Begun   bool    // some of the response has come
	Scan    int     // bytes of its head searched so far
	Content bool    // its head has come
	Framing Framing
	Reuse   bool   // the server lets the connection live
	Left    int64  // bytes of content still to come; -1 if that isn't known
	Body    Chunks // position in chunked content
}

// NewCall returns a Call that can be used for one request after another.
func (s *Servers) NewCall() stream.Call { return &Call{shared: s} }

// Begin implements stream.Call.
func (k *Call) Begin(c *eventloop.Conn, method []byte) {
	*k = Call{shared: k.shared, conn: c, head: string(method) == "HEAD"}
}

// Send implements stream.Call.
func (k *Call) Send(r *message.Request, body []byte) {
	k.upgrade, k.chunked = r.Upgrade, r.Chunked
	buf := k.conn.Reserve(len(r.Target) + len(r.Lines) + len(r.Told) + len(r.Set) + len(body) + 512)
	had := len(buf)
	buf = append(AppendRequest(buf, r), body...)
	k.commit(buf, had)
}

func (k *Call) commit(buf []byte, had int) {
	k.out += uint64(len(buf) - had)
	k.conn.Commit(buf)
}

// Data implements stream.Call.
func (k *Call) Data(p []byte) {
	buf := k.conn.Reserve(len(p) + 32)
	k.commit(k.Coding.Data(buf, p), len(buf))
}

// Trailer implements stream.Call.
func (k *Call) Trailer(name, value []byte) {
	buf := k.conn.Reserve(len(name) + len(value) + 16)
	k.commit(k.Coding.Trailer(buf, name, value), len(buf))
}

// End implements stream.Call. Only a chunked body has an end of its own.
func (k *Call) End() bool {
	if k.chunked {
		buf := k.conn.Reserve(8)
		k.commit(k.Coding.End(buf), len(buf))
	}
	return k.chunked
}

// boundless are the limits for a server's chunked content: none on its length.
var boundless = Limits{Head: MaxResponseHead, Body: 1<<63 - 1, Blanks: true}

// Next implements stream.Call.
func (k *Call) Next(in []byte) (n int, e stream.Event) {
	k.in += uint64(max(0, len(in)-k.seen))
	k.Begun = k.Begun || len(in) > 0
	if k.Content {
		n, e = k.nextContent(in)
	} else {
		n, e = k.nextHead(in)
	}
	k.seen = len(in) - n
	return n, e
}

func (k *Call) nextHead(in []byte) (n int, e stream.Event) {
	r := &k.shared.resp
	n, ok := ParseResponse(in, k.Scan, r)
	if ok && n > 0 && r.MoreOptions > 0 {
		k.shared.opts, ok = k.shared.opts.Read(r.Lines)
		r.Named = k.shared.opts
	}
	switch {
	case !ok, n > 0 && r.Status == 101 && !(k.upgrade && r.Upgrade):
		return 0, stream.Malformed
	case n == 0:
		k.Scan = len(in)
		return 0, stream.More
	}
	k.Scan = 0
	switch {
	case r.Status == 101:
		return n, stream.Switch
	case r.Status < 200:
		return n, stream.Interim
	}
	k.Content, k.Framing, k.Left = true, FramingOf(r, k.head), r.Length
	k.Reuse = r.KeepAlive && k.Framing != ToClose
	return n, stream.Head
}

func (k *Call) nextContent(in []byte) (n int, e stream.Event) {
	switch k.Framing {
	case NoContent:
		return 0, stream.Complete
	case ByLength:
		if k.Left == 0 {
			return 0, stream.Complete
		}
		n = int(min(k.Left, int64(len(in))))
		k.Left -= int64(n)
	case ToClose:
		n = len(in)
	case ByChunks:
		return k.nextChunk(in)
	}
	if n == 0 {
		return 0, stream.More
	}
	k.piece = in[:n]
	return n, stream.Data
}

func (k *Call) nextChunk(in []byte) (n int, e stream.Event) {
	var status int
	n, k.piece, status = k.Body.Next(in, boundless)
	k.conn.Spend(k.Body.Work())
	switch {
	case status != 0:
		return n, stream.Malformed
	case k.piece == nil && k.Body.Step == Done:
		return n, stream.Complete
	case k.piece == nil:
		return n, stream.More
	case k.Body.Step == InTrailer:
		return n, stream.Trailer
	}
	return n, stream.Data
}

// Response implements stream.Call.
func (k *Call) Response() *message.Response { return &k.shared.resp }

// Piece implements stream.Call.
func (k *Call) Piece() []byte { return k.piece }

// Closed implements stream.Call.
func (k *Call) Closed() stream.Event {
	if k.Content && k.Framing == ToClose && !k.conn.Truncated() {
		return stream.Complete
	}
	return stream.Malformed
}

// HasBegun implements stream.Call.
func (k *Call) HasBegun() bool { return k.Begun }

// Direct implements stream.Call.
func (k *Call) Direct() int64 {
	switch {
	case k.Content && k.Framing == ByLength:
		return k.Left
	case k.Content && k.Framing == ToClose:
		return -1
	}
	return 0
}

// Reusable implements stream.Call.
func (k *Call) Reusable() bool { return k.Reuse }

// Bytes implements stream.Call.
func (k *Call) Bytes() (in, out uint64) { return k.in, k.out }

// Record writes or reads st.
func (st *CallState) Record(r *pack.Record) {
	r.Bool(&st.Coding.Last)
	r.Bool(&st.Begun)
	r.Int(&st.Scan, MaxResponseHead)
	r.Bool(&st.Content)
	framing, left := int(st.Framing), st.Left+1
	r.Int(&framing, int(ToClose))
	r.Bool(&st.Reuse)
	r.Int64(&left, math.MaxInt64)
	st.Framing, st.Left = Framing(framing), left-1
	st.Body.Record(r)
}

// Freeze implements stream.Call.
func (k *Call) Freeze(b []byte) []byte {
	r := pack.Writing(b)
	k.CallState.Record(r)
	return r.Written()
}

var errCall = fmt.Errorf("the state of a call is not understood: %w", pack.ErrMalformed)

// Thaw implements stream.Call.
func (k *Call) Thaw(r *message.Request, b []byte) error {
	var st CallState
	in := pack.Reading(b)
	if st.Record(in); in.End() != nil {
		return errCall
	}
	return k.Resume(r, st)
}

// Resume is Thaw for a state that the caller has read already.
func (k *Call) Resume(r *message.Request, st CallState) error {
	if st.Framing == ByLength && st.Left < 0 {
		return errCall
	}
	k.upgrade, k.chunked, k.CallState, k.seen = r.Upgrade, r.Chunked, st, st.Scan
	return nil
}
