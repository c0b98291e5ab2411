package files

import "reuseportd/internal/service/http/message"

// answer is a decided answer as data. It belongs to a loop and is reused, so that most
// answers allocate nothing.
type answer struct {
	status int
	fields []byte // whole field lines, without Date, Server, Connection and Content-Length
	length int64  // Content-Length; -1 to have none
	body   []byte // sent before the file, or alone

	// A file, or -1; its sender closes it. Either n bytes of it from off on are sent, or
	// parts of it with their heads, and tail.
	fd     int
	off, n int64
	parts  []part
	tail   []byte

	room lookup
}

// part is one range of several: its head, then bytes of the file.
type part struct {
	head   []byte
	off, n int64
}

// reset empties the answer. It closes nothing: the file belongs to its sender.
func (a *answer) reset() {
	a.status, a.fields, a.length, a.body = 0, append(a.fields[:0], message.Server...), 0, nil
	a.fd, a.off, a.n, a.parts, a.tail = -1, 0, 0, a.parts[:0], nil
	a.room.held = nil
}

// fail replaces the answer with an error: a status and its reason.
func (a *answer) fail(status int) {
	closeFD(a.fd)
	a.reset()
	a.status = status
	a.fields = append(a.fields, "Content-Type: text/plain; charset=utf-8\r\n"...)
	a.body = message.Words[status]
	a.length = int64(len(a.body))
}
