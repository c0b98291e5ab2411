package files

import "reuseportd/internal/service/http/message"

// answer is what a service has decided to say. It belongs to a loop and is used
// again, so that most answers allocate nothing.
type answer struct {
	status int
	fields []byte // whole field lines, but for Date, Server, Connection and Content-Length
	length int64  // Content-Length; -1 to have none
	body   []byte // sent first, or all there is

	// A file, or -1, to be closed by whoever sends it: n bytes of it from off on,
	// or its parts with what stands between them, and tail.
	fd     int
	off, n int64
	parts  []part
	tail   []byte

	room lookup
}

// part is one range of several: a head of its own, then bytes of the file.
type part struct {
	head   []byte
	off, n int64
}

// reset empties the answer. It closes nothing: the file has gone to who sends it.
func (a *answer) reset() {
	a.status, a.fields, a.length, a.body = 0, append(a.fields[:0], message.Server...), 0, nil
	a.fd, a.off, a.n, a.parts, a.tail = -1, 0, 0, a.parts[:0], nil
	a.room.held = nil
}

// fail makes it an error's: the status in words, in place of all else.
func (a *answer) fail(status int) {
	closeFD(a.fd)
	a.reset()
	a.status = status
	a.fields = append(a.fields, "Content-Type: text/plain; charset=utf-8\r\n"...)
	a.body = message.Words[status]
	a.length = int64(len(a.body))
}
