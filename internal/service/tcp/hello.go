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

// choose chooses the upstream, if necessary by in, what the client has sent so far. It returns how much of in it
// has consumed.
func (h *Handler) choose(st *session, in []byte) int {
	if h.targets.named() {
		if !h.conf.AcceptProxy { // otherwise its timeout is running already
			st.client.SetDeadline(h.header)
		}
		st.phase = inHello
		return h.readHello(st.client, st, in)
	}
	st.up = h.targets.own
	h.reach(st)
	return 0
}

// readHello chooses the upstream by the name that the client asks for. The hello stays in the input, since
// it is for the server.
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
		h.refuseName(c, said.ServerName)
	}
	return 0
}

// refuseName closes a client that asks for a name that isn't served here, with a TLS
// alert.
func (h *Handler) refuseName(c *eventloop.Conn, name string) {
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

// postgres reports whether a client asks for encryption as PostgreSQL's do, and with what it is answered; 0 if the
// request is incomplete. Nothing may come with the request before it is answered: somebody else could have added it
// (CVE-2021-23214).
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
