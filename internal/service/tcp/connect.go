package tcp

import (
	"golang.org/x/sys/unix"

	"reuseportd/internal/service/proxyproto"
	"reuseportd/internal/upstream"
)

// countEvery is how many bytes a direction passes before the server's counters get
// them, unless it ends or is looked at before.
const countEvery = 16 << 20

// reach begins to connect a client's session to a server.
func (h *Handler) reach(st *session) {
	st.phase = connecting
	st.client.SetDeadline(0)
	st.client.Hold()
	st.client.SetBusy(true)
	h.try(st)
}

// try begins one attempt after another until one is under way, or none is left. That
// it tries again is always safe: no server has got a byte.
func (h *Handler) try(st *session) {
	for {
		to, why := h.chooser.Pick(h.loop.Monotonic(), h.key(st), &st.tried)
		if to == nil {
			h.turnAway(st, why)
			return
		}
		st.to = to
		c, err := h.loop.Dial(h.servers, to.Address())
		if err == nil {
			st.server, st.late = c, false
			c.State = st
			c.SetDeadline(h.connect)
			return
		}
		errno, _ := err.(unix.Errno)
		if !h.mayRetry(st, errno) {
			return
		}
	}
}

// unreached is told that the attempt under way has failed.
func (h *Handler) unreached(st *session) {
	errno := h.loop.Cause()
	switch {
	case errno == unix.ECANCELED: // the loop closes all: no server's fault
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

// mayRetry takes note of a failed attempt. If it was the last one, the client is closed.
func (h *Handler) mayRetry(st *session, errno unix.Errno) bool {
	to, reason := st.to, upstream.ReasonOf(errno)
	text := ""
	if reason == upstream.Other {
		text = errno.Error()
	}
	h.tell(to.Name(), reason.String(), text)
	h.chooser.Failed(to, h.loop.Monotonic(), reason)
	h.done(st)
	st.tried.Add(to)
	if reason.Local() || st.tried.Len() > h.up.Retries {
		h.refuse(st)
		return false
	}
	return true
}

// turnAway closes a client for which there is no server.
func (h *Handler) turnAway(st *session, why upstream.Why) {
	h.tell("", why.String(), "")
	h.refuse(st)
}

// refuse closes a client that gets no server: with RST, for the end of a stream would
// say that the answer was empty. Nothing was sent to it that this could destroy.
func (h *Handler) refuse(st *session) {
	st.phase = over
	st.client.Abort()
}

// reached makes a pair of the client and the server that answered.
func (h *Handler) reached(st *session) {
	client, server := st.client, st.server
	st.to.AddConnect()
	h.chooser.Succeeded(st.to, h.loop.Monotonic())
	if h.up.SendProxy > 0 {
		src, dst := st.source, st.destination
		if !src.IsValid() {
			src, dst = client.Remote(), client.Local()
		}
		h.scratch = proxyproto.Append(h.scratch[:0], h.up.SendProxy, src, dst)
		server.Write(h.scratch)
	}
	st.phase = passing
	h.loop.Join(client, server)
	client.SetDeadline(h.first)
	server.SetDeadline(h.total)
	client.SetBusy(false)
	server.Pass(countEvery)
	client.Pass(countEvery)
}

// key is what a server is chosen by where that depends on the client: its address.
func (h *Handler) key(st *session) uint64 {
	switch {
	case !h.keyed:
		return 0
	case st.source.IsValid():
		return upstream.KeyOfAddr(st.source.Addr())
	}
	return upstream.KeyOfAddr(st.client.Remote().Addr())
}
