package tcp

import (
	"golang.org/x/sys/unix"

	"reuseportd/internal/service/proxyproto"
	"reuseportd/internal/upstream"
)

// countEvery is how many bytes a direction passes before they are added to the server's
// counters, unless it ends or is checked before.
const countEvery = 16 << 20

// reach begins to connect a client's session to a server.
func (h *Handler) reach(st *session) {
	st.phase = connecting
	st.client.SetDeadline(0)
	st.client.Hold()
	st.client.SetBusy(true)
	h.try(st)
}

// try begins one attempt after another until one is under way or none is left. To try
// again is always safe, since no server has been sent a byte.
func (h *Handler) try(st *session) {
	for {
		to, why := st.up.chooser.Pick(h.loop.Monotonic(), h.key(st), &st.tried)
		if to == nil {
			h.noServer(st, why)
			return
		}
		st.to = to
		c, err := h.loop.Dial(st.up.servers, to.Address())
		if err == nil {
			st.server, st.late, st.noTLS, st.untrusted = c, false, false, ""
			c.State = st
			c.SetDeadline(st.up.connect)
			return
		}
		errno, _ := err.(unix.Errno)
		if !h.mayRetry(st, errno) {
			return
		}
	}
}

// unreached is called when the attempt under way has failed.
func (h *Handler) unreached(st *session) {
	errno := h.loop.Cause()
	switch {
	case errno == unix.ECANCELED: // the loop closes everything: no server's fault
		h.done(st)
		h.refuse(st)
		return
	case st.late:
		errno = unix.ETIMEDOUT
	}
	if h.mayRetry(st, errno) {
		h.try(st)
	}
}

// mayRetry records a failed attempt. If it was the last one it refuses the client and
// returns false.
func (h *Handler) mayRetry(st *session, errno unix.Errno) bool {
	to, reason := st.to, upstream.ReasonOf(errno)
	text := ""
	switch {
	case st.noTLS:
		reason, text = upstream.Other, "it refuses TLS, which the client has asked for"
	case reason == upstream.NoTrust:
		text = st.untrusted
	case reason == upstream.Other:
		text = errno.Error()
	}
	h.tell(st, to.Name(), reason.String(), text)
	st.up.chooser.Failed(to, h.loop.Monotonic(), reason)
	h.done(st)
	st.tried.Add(to)
	if reason.Local() || st.tried.Len() > st.up.conf.Retries {
		h.refuse(st)
		return false
	}
	return true
}

// noServer refuses a client for which there is no server, and reports why.
func (h *Handler) noServer(st *session, why upstream.Why) {
	h.tell(st, "", why.String(), "")
	h.refuse(st)
}

// refuse closes a client that gets no server. It does so with RST, since a FIN would look
// like an empty answer. Nothing was sent to the client that a RST could destroy.
func (h *Handler) refuse(st *session) {
	st.phase = over
	st.client.Abort()
}

// greet sends the server what precedes the client's bytes. A server that is asked for TLS counts as
// reached when it has answered.
func (h *Handler) greet(st *session) {
	server := st.server
	if st.up.conf.TLS == nil { // else it has gone in front of the handshake
		if h.scratch = h.proxyHeader(st, h.scratch[:0]); len(h.scratch) > 0 {
			server.Write(h.scratch)
		}
	}
	if st.asked {
		server.Write(sslRequest)
		return
	}
	h.reached(st)
}

// proxyHeader appends the header of the PROXY protocol that the server expects, if it does.
func (h *Handler) proxyHeader(st *session, b []byte) []byte {
	v := st.up.conf.SendProxy
	if v == 0 {
		return b
	}
	src, dst := st.source, st.destination
	if !src.IsValid() {
		src, dst = st.client.Remote(), st.client.Local()
	}
	return proxyproto.Append(b, v, src, dst)
}

// reached makes a pair of the client and its server.
func (h *Handler) reached(st *session) {
	client, server := st.client, st.server
	st.to.AddConnect()
	st.up.chooser.Succeeded(st.to, h.loop.Monotonic())
	st.phase = passing
	h.loop.Join(client, server)
	client.SetDeadline(h.first)
	server.SetDeadline(h.total)
	client.SetBusy(false)
	server.Pass(client, countEvery)
	client.Pass(server, countEvery)
}

// key returns the hash key by which a server is chosen: the client's address, if the
// upstream uses that.
func (h *Handler) key(st *session) uint64 {
	switch {
	case !st.up.keyed:
		return 0
	case st.source.IsValid():
		return upstream.KeyOfAddr(st.source.Addr())
	}
	return upstream.KeyOfAddr(st.client.Remote().Addr())
}
