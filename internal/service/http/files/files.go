package files

import (
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"reuseportd/internal/service/http/message"
)

const allowed = "Allow: GET, HEAD, OPTIONS\r\n"

// smallFile is the largest file, or part of one, that is read and sent with the
// head: one copy is cheaper than sendfile(2). Bytes.
const smallFile = 16 << 10

// plan decides the answer for the file at path, which is relative to the root.
func (r *Root) plan(q *message.Request, path []byte, now time.Time, a *answer) {
	if !q.IsGet() && !q.IsHead() {
		a.status, a.length = 204, -1
		if string(q.Method) != "OPTIONS" {
			a.fail(405)
		}
		a.fields = append(a.fields, allowed...)
		return
	}
	directory := len(path) == 0 || path[len(path)-1] == '/'
	if len(path) == 0 && q.Path[len(q.Path)-1] != '/' {
		a.redirect(q)
		return
	}
	name := append(a.room.name[:0], path...)
	if directory {
		name = append(name, r.index...)
	}
	a.room.name = append(name, 0)
	if f := a.room.cache.find(r, a.room.name, now); f != nil && q.RangeField == nil {
		a.room.stat, a.room.held = f.stat, f.data
		a.file(q, now)
		return
	}
	fd, errno := openBeneath(r.fd, a.room.name)
	if errno != 0 {
		a.fail(statusOf(errno))
		return
	}
	a.fd = fd
	st := &a.room.stat
	if err := unix.Fstat(fd, st); err != nil {
		a.fail(500)
		return
	}
	switch kind := st.Mode & unix.S_IFMT; {
	case kind == unix.S_IFDIR && !directory:
		closeFD(fd)
		a.fd = -1
		a.redirect(q)
	case kind != unix.S_IFREG:
		a.fail(404)
	default:
		// A file that was changed in the current second may change again and keep its date.
		a.room.settled = r.cache > 0 && validatorsOf(nil, st, now).strong
		a.file(q, now)
		if a.room.settled && a.status == 200 && q.IsGet() && a.fd < 0 {
			a.room.cache.put(r, a.room.name, now, st, a.body)
		}
	}
}

// file answers with the open file a.fd, as the request's conditions and range
// want it.
func (a *answer) file(q *message.Request, now time.Time) {
	st := &a.room.stat
	v := validatorsOf(appendETag(a.room.etag[:0], st), st, now)
	a.room.etag = v.etag
	status := v.evaluate(q)
	if status == 412 {
		a.fail(412)
		return
	}
	a.fields = append(append(append(a.fields, "ETag: "...), v.etag...), "\r\n"...)
	if v.strong || st.Mtim.Sec > now.Unix() {
		a.fields = append(message.AppendHTTPDate(append(a.fields, "Last-Modified: "...), time.Unix(v.modified, 0)), "\r\n"...)
	}
	if status == 304 {
		closeFD(a.fd)
		a.fd, a.status, a.length = -1, 304, -1
		return
	}
	a.status, a.off, a.n = 200, 0, st.Size
	kind := ContentType(a.room.name[:len(a.room.name)-1])
	if q.IsGet() && q.RangeField != nil && v.mayRange(q) {
		var room [maxRanges]span
		spans, ok := parseRanges(q.RangeField, st.Size, room[:0])
		switch {
		case !ok:
			a.unsatisfiable(st.Size)
			return
		case len(spans) > 1:
			a.severalParts(spans, st.Size, kind)
			return
		case len(spans) == 1:
			a.status, a.off, a.n = 206, spans[0].off, spans[0].n
			a.fields = append(appendContentRange(a.fields, spans[0], st.Size), "\r\n"...)
		}
	}
	a.length = a.n
	a.fields = append(append(append(a.fields, "Accept-Ranges: bytes\r\nContent-Type: "...), kind...), "\r\n"...)
	if a.n <= smallFile && q.IsGet() {
		a.read()
	}
}

// read puts what is to be sent of the file into the body.
func (a *answer) read() {
	if a.room.held != nil {
		a.body = a.room.held
		return
	}
	if a.room.data == nil {
		a.room.data = make([]byte, smallFile)
	}
	for have := int64(0); have < a.n; {
		n, err := unix.Pread(a.fd, a.room.data[have:a.n], a.off+have)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n == 0 {
			a.fail(500) // unreadable, or shorter than when it was opened
			return
		}
		have += int64(n)
	}
	a.body = a.room.data[:a.n]
	if a.room.settled {
		a.room.settled = a.unchanged()
	}
	closeFD(a.fd)
	a.fd = -1
}

// unchanged reports whether the open file is still what it was before it was read.
func (a *answer) unchanged() bool {
	was, is := &a.room.stat, &a.room.again
	return unix.Fstat(a.fd, is) == nil && is.Mtim == was.Mtim && is.Ctim == was.Ctim && is.Size == was.Size
}

// redirect sends the client to the directory's name with a slash. The path is the cleaned
// one, encoded again: it begins with one slash and so it can't name another host, and it
// can't end the field.
func (a *answer) redirect(q *message.Request) {
	a.status, a.length = 301, 0
	a.fields = message.AppendEncoded(append(a.fields, "Location: "...), q.Path)
	a.fields = append(a.fields, '/')
	if len(q.Query) > 0 {
		a.fields = append(append(a.fields, '?'), q.Query...)
	}
	a.fields = append(a.fields, "\r\n"...)
}

// appendETag makes a strong validator of the modification time in nanoseconds
// and the size. A file that is changed in place twice within one tick of the
// kernel's clock and keeps its size keeps its tag (from Linux 6.13 on, not even then).
func appendETag(b []byte, st *unix.Stat_t) []byte {
	b = strconv.AppendInt(append(b, '"'), st.Mtim.Nano(), 16)
	b = strconv.AppendInt(append(b, '-'), st.Size, 16)
	return append(b, '"')
}
