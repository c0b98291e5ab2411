package files

import (
	"golang.org/x/sys/unix"

	"reuseportd/internal/eventloop"
	"reuseportd/internal/service/http/message"
	"reuseportd/internal/service/http/stream"
)

// Room has the buffers that the routes of one site share in one loop.
type Room struct {
	loop *eventloop.Loop
	ans  answer
	resp message.Response
}

// NewRoom makes the room of a loop.
func NewRoom(l *eventloop.Loop) *Room { return &Room{loop: l} }

// Route answers with the files below a root, in one loop.
type Route struct {
	root *Root
	room *Room
	path string // of the route
}

// Route returns the route at a path.
func (r *Room) Route(root *Root, path string) *Route { return &Route{root, r, path} }

// ReadsBody implements stream.Route.
func (r *Route) ReadsBody() bool { return false }

// Serve implements stream.Route.
func (r *Route) Serve(s stream.Stream, q *message.Request, _ []byte) stream.Responder {
	switch {
	case !known(q.Method):
		s.Fail(501)
		return nil
	case !r.room.loop.MayOpen():
		s.Fail(503)
		return nil
	}
	s.Spend(eventloop.FileWork)
	a := &r.room.ans
	a.reset()
	r.root.plan(q, r.below(q.Path), r.room.loop.Now(), a)
	return r.room.send(s, q)
}

// known reports whether a method is one of RFC 9110 section 9 and RFC 5789. Any other is
// answered with 501.
func known(method []byte) bool {
	switch string(method) {
	case "GET", "HEAD", "OPTIONS", "POST", "PUT", "DELETE", "TRACE", "PATCH":
		return true
	}
	return false
}

// below returns the part of a path that is below the route's.
func (r *Route) below(path []byte) []byte {
	path = path[len(r.path):]
	for len(path) > 0 && path[0] == '/' {
		path = path[1:]
	}
	return path
}

// send sends the answer. It returns what continues it, nil if the stream has ended.
func (r *Room) send(s stream.Stream, q *message.Request) stream.Responder {
	a := &r.ans
	r.resp = message.Response{Status: a.status, Lines: a.fields, Length: a.length, Local: true}
	s.Head(&r.resp, len(a.body))
	switch {
	case q.IsHead():
		closeFD(a.fd)
	case len(a.parts) > 0:
		r.loop.CountFiles(1)
		p := &Parts{loop: r.loop, s: s, parts: append([]part(nil), a.parts...), fd: a.fd, tail: a.tail}
		if p.next() {
			return p
		}
		return nil
	case a.fd >= 0 && a.n > 0:
		s.Data(a.body)
		s.File(a.fd, a.off, a.n)
	default:
		s.Data(a.body)
		closeFD(a.fd)
	}
	a.fd = -1
	s.End()
	return nil
}

func closeFD(fd int) {
	if fd >= 0 {
		_ = unix.Close(fd)
	}
}
