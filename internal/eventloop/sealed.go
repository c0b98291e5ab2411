package eventloop

import (
	"io"

	"golang.org/x/sys/unix"
)

// seal is what a connection has that is not plain. It lies in a table beside the connections, so that those that are
// plain pay nothing for it.
type seal struct {
	Transport
	in    []byte // lent: read from the socket and not opened, which may be whole records
	plain []byte // lent: opened, and not received
	taken int    // of plain
	said  bool   // the peer has said that it has ended
	ended bool   // …and we have
}

// seals has the seals by descriptor, in chunks as the table of connections.
type seals struct {
	chunks []*[chunk]*seal
}

// at returns the place of a descriptor's seal.
func (t *seals) at(fd int32) **seal {
	i := int(fd) / chunk
	for i >= len(t.chunks) {
		t.chunks = append(t.chunks, nil)
	}
	if t.chunks[i] == nil {
		t.chunks[i] = new([chunk]*seal)
	}
	return &t.chunks[i][int(fd)%chunk]
}

// seal gives a connection a transport.
func (l *Loop) seal(c *Conn, t Transport) *seal {
	if l.wire == nil {
		l.wire = make([]byte, maxShake+maxSealed+l.maxMessage)
	}
	s := &seal{Transport: t}
	*l.seals.at(c.fd) = s
	c.flags |= sealed
	return s
}

// sealOf returns the seal of a connection that has one.
func (l *Loop) sealOf(c *Conn) *seal { return *l.seals.at(c.fd) }

// freeSeal frees a connection's seal, at its end.
func (l *Loop) freeSeal(c *Conn) {
	if !c.has(sealed) {
		return
	}
	s := l.sealOf(c)
	*l.seals.at(c.fd) = nil
	c.flags &^= sealed
	s.free(&l.buffers)
	s.Free()
}

// Sealed returns the connection's transport, nil if it is plain.
func (c *Conn) Sealed() Transport {
	if !c.has(sealed) {
		return nil
	}
	return c.svc.loop.sealOf(c).Transport
}

// Truncated reports whether the input of a connection that is not plain has ended without the word of its
// transport: somebody on the way may have ended it.
func (c *Conn) Truncated() bool { return c.has(sealed) && c.has(eof) && !c.svc.loop.sealOf(c).said }

// held reports whether something was read that no handler has seen.
func (s *seal) held() bool { return len(s.in)+len(s.plain) > 0 }

// free takes back what was read and not received.
func (s *seal) free(b *buffers) {
	b.put(s.in)
	b.put(s.plain)
	s.in, s.plain, s.taken = nil, nil, 0
}

// keep has what was read and not opened stay for later.
func (s *seal) keep(b *buffers, rest []byte) {
	if len(rest) > 0 && cap(s.in) >= len(rest) && (cap(s.in) < 4*len(rest) || cap(s.in) <= minBuffer) {
		s.in = s.in[:copy(s.in[:len(rest)], rest)]
		return
	}
	var kept []byte
	if len(rest) > 0 {
		kept = append(b.get(len(rest)), rest...)
	}
	b.put(s.in)
	s.in = kept
}

// receiveSealed is receive for a connection that is not plain. It reads from the socket at most once, and only if
// nothing is left that was read before.
func (l *Loop) receiveSealed(c *Conn, p []byte) (n int, more bool, errno unix.Errno) {
	if c.has(lingering) {
		n, errno = read(c.fd, p) // to be thrown away
		return n, n == len(p), errno
	}
	s := l.sealOf(c)
	if n = copy(p, s.plain[s.taken:]); n > 0 {
		if s.taken += n; s.taken == len(s.plain) {
			l.buffers.put(s.plain)
			s.plain, s.taken = nil, 0
		}
		return n, true, 0
	}
	if s.said {
		return 0, false, 0
	}
	wire := l.wire[:copy(l.wire, s.in)]
	if len(wire) > 0 {
		if n, _, errno = l.openRecords(c, s, p, wire); n > 0 || errno != unix.EAGAIN {
			return n, true, errno
		}
	}
	if wire = wire[:len(s.in)]; len(wire) > maxSealed {
		return 0, false, unix.EPROTO // no record is as long
	}
	copy(wire, s.in)
	room := l.wire[len(wire):min(len(wire)+l.maxMessage, len(l.wire))]
	k, errno := read(c.fd, room)
	switch {
	case errno != 0:
		return 0, false, errno
	case k == 0:
		return 0, false, 0 // Truncated
	}
	l.count.in(c, k)
	n, more, errno = l.openRecords(c, s, p, l.wire[:len(wire)+k])
	if more = more || k == len(room) || c.has(hangup); more && errno == unix.EAGAIN {
		errno = unix.EINTR // the socket may have the rest
	}
	return n, more, errno
}

// openRecords opens what it can of wire into p, and keeps the rest: EAGAIN if there is nothing to be
// opened. more says that there is still.
func (l *Loop) openRecords(c *Conn, s *seal, p, wire []byte) (n int, more bool, errno unix.Errno) {
	to := p
	if len(p) < MaxRecord {
		to = l.buffers.get(MaxRecord)[:MaxRecord]
	}
	raw, n, used, err := s.Open(nil, to, wire)
	s.keep(&l.buffers, wire[used:])
	more = len(s.in) > 0 && len(to)-n < MaxRecord
	if len(p) < MaxRecord {
		k := copy(p, to[:n])
		if s.plain, s.taken = to[:n], k; k == n {
			l.buffers.put(to)
			s.plain, s.taken = nil, 0
		}
		more, n = more || k < n, k
	}
	if len(raw) > 0 {
		l.say(c, raw)
	}
	switch {
	case err == io.EOF:
		s.said = true
		return n, true, 0 // the end comes next
	case err != nil:
		l.sayLast(c)
		return 0, false, unix.EPROTO
	case n == 0:
		return 0, more, unix.EAGAIN
	}
	return n, more, 0
}

// say queues what a transport has to say, in front of what was not sealed yet.
func (l *Loop) say(c *Conn, raw []byte) {
	if c.has(deaf) {
		return
	}
	o := c.out
	if o == nil {
		o = l.output(c)
	}
	l.addSealed(o, append(l.sealedRoom(o, len(raw)), raw...))
	if l.driven != c {
		l.again(c)
	}
}

// sayLast writes what was said before the connection is ended by us, if the socket takes it at once.
func (l *Loop) sayLast(c *Conn) {
	if o := c.out; o != nil && len(o.sealed) > o.gone {
		n, errno := write(c.fd, o.sealed[o.gone:], 0)
		if errno == 0 {
			o.gone += n
		}
	}
}

// sealedRoom returns the sealed bytes that wait, with room for n more.
func (l *Loop) sealedRoom(o *output, n int) []byte {
	if need := len(o.sealed) + n; need > cap(o.sealed) {
		grown := append(l.buffers.get(need), o.sealed...)
		l.buffers.put(o.sealed)
		o.sealed = grown
	}
	return o.sealed
}

// addSealed takes what was appended to the slice that sealedRoom returned.
func (l *Loop) addSealed(o *output, b []byte) {
	l.mem.lent += cap(b) - cap(o.sealed) // append may have moved it
	o.sealed = b
}

// sealMost bounds what is sealed at once, in bytes: what the socket doesn't take of it is kept sealed.
const sealMost = 64 << 10

// sendSealed is send for a connection that is not plain: it seals some of what waits, if nothing is sealed that
// the socket has not taken, and writes once.
func (l *Loop) sendSealed(c *Conn, o *output) (n int, full bool, errno unix.Errno) {
	if len(o.sealed) == o.gone {
		if errno := l.sealSome(c, o); errno != 0 {
			return 0, false, errno
		}
		if len(o.sealed) == o.gone {
			return 0, false, 0 // a file shorter than was promised
		}
	}
	waits := o.sealed[o.gone:]
	n, errno = write(c.fd, waits, 0)
	if errno != 0 {
		return 0, false, errno
	}
	if o.gone += n; o.gone == len(o.sealed) {
		l.buffers.put(o.sealed)
		o.sealed, o.gone = nil, 0
	}
	return n, n < len(waits), 0
}

// sealSome seals what comes next: queued bytes and a tail, or part of a file.
func (l *Loop) sealSome(c *Conn, o *output) unix.Errno {
	s := l.sealOf(c)
	head := o.buf[o.done:]
	head = head[:min(len(head), sealMost)]
	tail := o.tail[:min(len(o.tail), sealMost-len(head))]
	if len(head) < len(o.buf)-o.done {
		tail = nil
	}
	if len(head)+len(tail) == 0 {
		buf := l.buffers.get(int(min(o.left, sealMost)))
		defer l.buffers.put(buf)
		k, errno := readFile(o, buf[:cap(buf)])
		if k == 0 {
			return errno
		}
		head = buf[:k]
		o.off += int64(k)
		o.left -= int64(k)
	} else {
		o.done += len(head)
		o.tail = o.tail[len(tail):] // stays non-nil, so that flush knows there was one
	}
	size := len(head) + len(tail)
	l.addSealed(o, s.Seal(l.sealedRoom(o, size+size/16+1<<10), head, tail))
	return 0
}

// endSealed has the peer told that no more comes, and reports whether that has to be written first. It does
// nothing for a plain connection.
func (l *Loop) endSealed(c *Conn) bool {
	if !c.has(sealed) || c.has(deaf) {
		return false
	}
	s := l.sealOf(c)
	if s.ended {
		return false
	}
	s.ended = true
	raw := s.End(nil)
	if len(raw) == 0 {
		return false
	}
	l.say(c, raw)
	return true
}

// closeInOrder closes a connection at which nothing is under way. The peer is told that nothing is missing, if the socket
// takes that at once. Close tells nobody: it may be in the middle of something.
func (l *Loop) closeInOrder(c *Conn) {
	if c.out == nil && !c.has(dialing|away) && l.endSealed(c) {
		l.sayLast(c)
	}
	c.Close()
}

// shake goes on with a handshake, and reports whether it is done. The connection may have ended by it.
func (l *Loop) shake(c *Conn) bool {
	s := l.sealOf(c)
	if !l.flushShake(c) {
		return false
	}
	for {
		wire := l.wire[:copy(l.wire, s.in)]
		raw, n, done, err := s.Shake(nil, wire)
		s.keep(&l.buffers, wire[n:])
		if len(raw) > 0 {
			if l.say(c, raw); !l.flushShake(c) && !c.has(open) {
				return false
			}
		}
		switch {
		case err != nil || len(s.in) > maxShake:
			l.end(c, wayClosed, unix.EPROTO)
			return false
		case done:
			return true
		case n > 0:
			continue // it has a next step
		case !c.has(readable):
			return false
		}
		room := l.wire[len(s.in):]
		room = room[:min(len(room), leastRead)]
		k, errno := read(c.fd, room)
		switch {
		case errno == unix.EINTR:
		case errno == unix.EAGAIN:
			c.flags &^= readable
			return false
		case errno != 0 || k == 0:
			l.end(c, wayClosed, errno)
			return false
		default:
			l.count.in(c, k)
			l.done += callWork
			s.keep(&l.buffers, l.wire[:len(s.in)+k])
		}
	}
}

// flushShake writes what a handshake has said, and reports whether all has gone. What a handler has queued meanwhile
// waits: there are no keys yet.
func (l *Loop) flushShake(c *Conn) bool {
	o := c.out
	if o == nil {
		return true
	}
	for o.gone < len(o.sealed) {
		n, errno := write(c.fd, o.sealed[o.gone:], 0)
		switch errno {
		case 0:
			o.gone += n
			l.count.out(c, n)
		case unix.EINTR:
		case unix.EAGAIN:
			l.block(c)
			return false
		default:
			l.end(c, wayClosed, errno)
			return false
		}
	}
	if o.pending() == 0 && !o.tailed() {
		l.freeOutput(c)
		return true
	}
	l.buffers.put(o.sealed)
	o.sealed, o.gone = nil, 0
	return true
}

// maxShake bounds what a handshake may leave unconsumed, in bytes.
const maxShake = 64 << 10

// Word says who of a connection that is not plain has said that no more comes.
type Word uint8

const (
	WordPeer Word = 1 << iota
	WordOurs
)

// pack writes a seal down.
func (s *seal) pack(p *Parcel) {
	p.Transport, p.Keys = s.Freeze(nil)
	p.Cipher, p.Opened = s.in, s.plain[s.taken:]
	if s.said {
		p.Word |= WordPeer
	}
	if s.ended {
		p.Word |= WordOurs
	}
}

// thawSeal is the reverse of pack.
func (l *Loop) thawSeal(c *Conn, p *Parcel) error {
	t, err := c.svc.transports.Thaw(c, p.Transport, p.Keys)
	if err != nil {
		return err
	}
	s := l.seal(c, t)
	if len(p.Cipher) > 0 {
		s.in = append(l.buffers.get(len(p.Cipher)), p.Cipher...)
	}
	if len(p.Opened) > 0 {
		s.plain = append(l.buffers.get(len(p.Opened)), p.Opened...)
	}
	s.said, s.ended = p.Word&WordPeer != 0, p.Word&WordOurs != 0
	return nil
}
