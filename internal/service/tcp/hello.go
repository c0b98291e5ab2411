package tcp

import (
	"bytes"
	"errors"
	"strconv"

	"reuseportd/internal/eventloop"
	"reuseportd/internal/tls/hello"
)

// A client of PostgreSQL asks for encryption before its hello, and waits for one byte: section 55.2.11 of PostgreSQL's
// manual, "SSL Session Encryption". It is answered here, and its server is asked likewise.
var (
	sslRequest = []byte{0, 0, 0, 8, 4, 210, 22, 47}
	gssRequest = []byte{0, 0, 0, 8, 4, 210, 22, 48}
)

const (
	hasTLS = 'S'
	hasNot = 'N'
)

// unrecognizedName is an alert: fatal, unrecognized_name (RFC 8446 section 6.2, RFC 6066 section 3).
var unrecognizedName = []byte{21, 3, 1, 0, 2, 2, 112}

const badHello = "bad TLS hello"

// choose chooses the upstream, if need be by what the client says first: in is what there is of it. It returns how
// much of that it has used.
func (h *Handler) choose(st *session, in []byte) int {
	if h.targets.named() {
		if !h.conf.AcceptProxy { // else its time is running
			st.client.SetDeadline(h.header)
		}
		st.phase = inHello
		return h.readHello(st.client, st, in)
	}
	st.up = h.targets.own
	h.reach(st)
	return 0
}

// readHello chooses the upstream by the name that the client asks for. The hello stays: it is the server's.
func (h *Handler) readHello(c *eventloop.Conn, st *session, in []byte) int {
	if st.phase == inHello {
		if asks, answer := postgres(in); asks {
			if answer == 0 {
				return 0
			}
			if answer == hasTLS {
				st.phase = inHelloAsked
			}
			c.Write([]byte{answer})
			return len(in)
		}
	}
	said, err := hello.Parse(in)
	plain := errors.Is(err, hello.ErrNotTLS) && st.phase == inHello
	switch {
	case errors.Is(err, hello.ErrMore):
		return 0
	case err != nil && !plain:
		h.badBegin(c, badHello, err.Error())
		return 0
	}
	st.asked = st.phase == inHelloAsked
	if st.up = h.targets.find(said.ServerName); plain {
		st.up = h.targets.own
	}
	switch {
	case st.up != nil:
		h.reach(st)
	case plain:
		h.badBegin(c, badHello, err.Error())
	default:
		h.strange(c, said.ServerName)
	}
	return 0
}

// strange tells a client that there is nobody of the name that it asks for.
func (h *Handler) strange(c *eventloop.Conn, name string) {
	text := "it names no server"
	if name != "" {
		text = "there is no upstream for " + strconv.Quote(name[:min(len(name), 255)])
	}
	h.tellOfBegin(c, "unknown TLS server name", text)
	st := sessionOf(c)
	st.phase = over
	c.SetDeadline(h.last)
	c.Write(unrecognizedName)
	c.Finish(true)
}

// postgres reports whether a client begins as one of PostgreSQL that asks for encryption, and what it is answered; 0 if
// it hasn't said all. It has to wait for that: what came with it could be somebody else's (CVE-2021-23214).
func postgres(in []byte) (asks bool, answer byte) {
	n := min(len(in), len(sslRequest))
	switch {
	case n == 0 || n < len(in):
		return false, 0
	case n < len(sslRequest):
		return bytes.HasPrefix(sslRequest, in) || bytes.HasPrefix(gssRequest, in), 0
	case bytes.Equal(in, sslRequest):
		return true, hasTLS
	case bytes.Equal(in, gssRequest):
		return true, hasNot
	}
	return false, 0
}
